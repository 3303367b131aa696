"""Find passages: embed the question, search the ranges that its time allows. Needs Milvus alone."""

import time
from dataclasses import dataclass
from datetime import datetime

from ..udfs.embed import embedder
from .lake.lake import known_model
from .lake.storage import lake_path
from .settings import Settings
from .vectors.connection import STANDALONE, connect, milvus_for
from .vectors.failures import failures_told
from .vectors.search import Hit, known_routes, nothing_indexed
from .vectors.search import search as search_vectors
from .vectors.server import has_data, server_folder


@dataclass(frozen=True)
class SearchReport:
    """Hits, best first; the time ranges that were searched; seconds from the
    embedding of the question to the answer, without the start of the model."""

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
    alias = settings.milvus.collection
    if settings.milvus.uri == STANDALONE and not has_data(server_folder(lake_path(settings))):
        # To unpack and start a server would tell the same, a minute later.
        raise nothing_indexed(alias)
    with milvus_for(settings) as address:
        client = connect(address)
        with failures_told(address):
            indexed = known_routes(client, alias)
        # A model that nobody names is the one that the passages were embedded by.
        model = known_model(settings.model.name if "model.name" in settings.explicit else indexed.model_name)
        embed = embedder(model, settings.compute_of_questions)
        begun = time.monotonic()
        vector = embed.embed([query])[0]
        found = search_vectors(client, alias, vector, k, since, until, model.id)
        return SearchReport(found.hits, found.partitions_searched, round(time.monotonic() - begun, 4))
