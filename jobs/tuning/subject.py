"""What a sweep is about."""

from dataclasses import dataclass

from pymilvus import MilvusClient

from ..lake.lake import Lake
from ..settings import Settings
from ..vectors.collection import Owner
from ..vectors.connection import MilvusAddress
from .choice import Promise


@dataclass(frozen=True)
class Subject:
    """What is tuned: `embeddings` at a version, for one Milvus."""

    lake: Lake
    version: int
    settings: Settings
    address: MilvusAddress
    client: MilvusClient

    @property
    def alias(self) -> str:
        return self.settings.milvus.collection

    @property
    def owner(self) -> Owner:
        lake = self.lake
        return Owner(lake.lake_id, lake.model.id, lake.chunking.id, lake.model.dimension)

    @property
    def promise(self) -> Promise:
        tune = self.settings.tune
        return Promise(tune.target_recall, tune.max_p99_ms, tune.max_memory)
