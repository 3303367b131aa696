"""The two sides of a load, `embeddings` and Milvus, and what lies between them, by time range."""

from collections.abc import Mapping
from dataclasses import dataclass

from pymilvus import MilvusClient
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from .lake.feed import EmbeddingChanges
from .lake.lake import Lake
from .lake.tables import EMBEDDINGS
from .settings import Settings
from .vectors import partitions
from .vectors.build import Staging
from .vectors.connection import MilvusAddress
from .vectors.plan import RangeAction
from .vectors.routes import Routes


@dataclass(frozen=True)
class Mirror:
    """The two sides of a load, and what lies between them, by time range.

    desired: rows of `embeddings` at `version`. changes: since the version that Milvus holds, None
    where they are not known. staging: None where nothing can be built. limit: partitions that the
    collection may have.
    """

    lake: Lake
    settings: Settings
    address: MilvusAddress
    client: MilvusClient
    collection: str
    staging: Staging | None
    limit: int
    version: int
    desired: Mapping[str, int]
    changes: EmbeddingChanges | None

    @property
    def upserts(self) -> Mapping[str, int]:
        return self.changes.upserts if self.changes else {}

    @property
    def deletes(self) -> Mapping[str, int]:
        return self.changes.deletes if self.changes else {}

    def rows_to_write(self, action: RangeAction) -> int:
        if action.way == "drop":
            return 0
        return self.desired.get(action.range, 0) if action.whole else self.upserts.get(action.range, 0)


def has_same_past(lake: Lake, routes: Routes) -> bool:
    """Whether the lake's version that Milvus holds is the one that it was loaded from, as far as that can be told.

    It is not after a lake was restored from a backup and written on.
    """
    found = lake.tables.commit(EMBEDDINGS, routes.version)
    return found is None or routes.commit is None or found == routes.commit


def foretold_rows(routes: Routes | None, changes: EmbeddingChanges | None) -> dict[str, int] | None:
    """Rows of `embeddings` by range, by the numbers of the last load and of the feed; None where they are not known."""
    if routes is None or routes.rows is None or changes is None:
        return None
    names = routes.rows.keys() | changes.growth.keys()
    rows = {name: routes.rows.get(name, 0) + changes.growth.get(name, 0) for name in names}
    return {name: number for name, number in rows.items() if number}


def rows_by(rows: DataFrame, range_name: Column) -> dict[str, int]:
    return {row["range"]: row["count"] for row in rows.groupBy(range_name.alias("range")).count().collect()}


def lake_rows(lake: Lake, version: int | None = None) -> dict[str, int]:
    """Rows of `embeddings` by range, really counted; in the newest version unless one is named."""
    return rows_by(lake.tables.read(EMBEDDINGS, version), F.col("partition"))


def present_rows(mirror: Mirror, routes: Routes) -> dict[str, int]:
    """Rows that Milvus has, by range; where nothing changed, really as many as it says."""
    changed = mirror.changes.by_range if mirror.changes else {}
    rows = partitions.counts_when_answering(mirror.client, mirror.collection, routes.live, "Bounded")
    doubtful = [
        generation
        for generation, count in rows.items()
        if generation.range not in changed and count != mirror.desired.get(generation.range, 0)
    ]
    rows |= partitions.counts_when_answering(mirror.client, mirror.collection, doubtful)
    return {generation.range: count for generation, count in rows.items()}


def snapshot(mirror: Mirror, ranges: list[str]) -> DataFrame:
    return mirror.lake.tables.read(EMBEDDINGS, mirror.version).where(F.col("partition").isin(ranges))
