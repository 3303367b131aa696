"""Find passages: embed the question, search the ranges that its time allows. Needs Milvus alone."""

import time
from dataclasses import dataclass
from datetime import datetime

from ..udfs.embed import embedder
from ..udfs.model import find_model
from .lake.lake import lake_path
from .settings import Settings
from .vectors.connection import connect, milvus_for
from .vectors.search import Hit
from .vectors.search import search as search_vectors


@dataclass(frozen=True)
class SearchReport:
    """Hits, best first; the time ranges that were searched; seconds from question to answer."""

    hits: list[Hit]
    partitions_searched: list[str]
    seconds: float


def search(
    settings: Settings,
    query: str,
    k: int = 10,
    since: datetime | None = None,
    until: datetime | None = None,
) -> SearchReport:
    """The k passages nearest to `query` whose document's time is in since <= time < until.

    Times are aware. Raises MilvusError where nothing is indexed yet, or by another model.
    """
    model = find_model(settings.model.name)
    embed = embedder(model.path, settings.model.device, settings.model.dtype, settings.model.batch_tokens)
    vector = embed.embed([query])[0]
    with milvus_for(settings, lake_path(settings)) as address:
        client = connect(address)
        begun = time.monotonic()
        found = search_vectors(client, settings.milvus.collection, vector, k, since, until, model.id)
        return SearchReport(found.hits, found.partitions_searched, round(time.monotonic() - begun, 4))
