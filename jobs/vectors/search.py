"""Searching through the routes: the ranges that a time allows, each in its live generation."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from pymilvus import MilvusClient, MilvusException

from ..errors import ConfigurationError, MilvusError
from ..lake.ranges import range_bounds
from .index import METRIC, widened
from .partitions import counts_when_answering, is_lite, load, present_generations
from .routes import KNOWN_SECONDS, Routes, read_routes, routes_behind
from .rows import COLUMNS, VECTOR

MOST_HITS = 16_384
GONE = ("partition not loaded", "collection not loaded", "collection not found", "can't find collection")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@dataclass
class Known:
    """What a client read of an alias last, and when; one of its threads at a time reads it anew."""

    routes: Routes | None = None
    at: float = 0.0
    reading: threading.Lock = field(default_factory=threading.Lock)

    def is_fresh(self) -> bool:
        return self.routes is not None and time.monotonic() - self.at <= KNOWN_SECONDS


KNOWN: WeakKeyDictionary[MilvusClient, dict[str, Known]] = WeakKeyDictionary()

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Hit:
    """One passage. start, end: code points of the document's text. page: None where there are none."""

    score: float
    text: str
    uri: str
    title: str
    heading_path: str
    page: int | None
    start: int
    end: int
    doc_timestamp: datetime
    doc_id: str
    chunk_id: str


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, and the names of the time ranges that were searched."""

    hits: list[Hit]
    partitions_searched: list[str]


def search(
    client: MilvusClient,
    name: str,
    vector: Sequence[float],
    k: int,
    since: datetime | None = None,
    until: datetime | None = None,
    model_id: str | None = None,
    consistency: str = "Strong",
) -> SearchResult:
    """The k rows nearest to `vector` whose doc_timestamp is in since <= time < until (aware).

    name: the collection's alias. model_id: the model that embedded `vector`.
    consistency: Strong sees all that is written, in 0.2 to 0.45 s; Bounded may miss the last half
    second and takes milliseconds.
    Raises MilvusError where nothing is indexed yet or by another model, ConfigurationError for a k
    out of bounds.
    """
    if not 1 <= k <= MOST_HITS:
        raise ConfigurationError(f"k is {k}; Milvus gives 1 to {MOST_HITS:,} hits.")
    bounds = since and milliseconds(since), until and milliseconds(until)

    def attempt(routes: Routes) -> SearchResult:
        if model_id is not None and model_id != routes.model_id:
            raise MilvusError(
                f"The collection {name} holds vectors of the model {routes.model_id}; the question was embedded by "
                f"{model_id}. Set model.name to the collection's model."
            )
        ranges = ranges_within(routes.generations, *bounds)
        if not ranges:
            return SearchResult([], [])
        found = client.search(
            routes.collection,
            data=[np.asarray(vector, np.float32).tolist()],
            anns_field=VECTOR,
            limit=k,
            filter=time_filter(ranges, *bounds),
            output_fields=list(COLUMNS),
            partition_names=[routes.partition(each) for each in ranges],
            search_params={"metric_type": METRIC, "params": widened(routes.index.search, k)},
            consistency_level=consistency,
        )
        return SearchResult([hit_of(each) for each in found[0]], ranges)

    return through_routes(client, name, attempt)


def partition_counts(client: MilvusClient, name: str) -> dict[str, int]:
    """Rows of each live time range, really counted; 0 where its partition is gone, {} where nothing is indexed."""
    if (published := read_routes(client, name)) is None or not client.has_collection(published.collection):
        return {}

    def attempt(routes: Routes) -> dict[str, int]:
        there = set(present_generations(client, routes.collection))
        found = counts_when_answering(client, routes.collection, there.intersection(routes.live))
        return {generation.range: found.get(generation, 0) for generation in routes.live}

    # No earlier state will do.
    KNOWN.pop(client, None)
    return through_routes(client, name, attempt)


def through_routes(client: MilvusClient, name: str, attempt: Callable[[Routes], Answer]) -> Answer:
    """What `attempt` gives for the routes; once more, by those of now, if a switch came between."""
    try:
        return attempt(known_routes(client, name))
    except MilvusException as error:
        if not is_outdated(error):
            raise MilvusError(f"Milvus did not answer: {error.message}") from error
    KNOWN.pop(client, None)
    try:
        return attempt(current_routes(client, name))
    except MilvusException as error:
        raise MilvusError(f"Milvus did not answer: {error.message}") from error


def known_routes(client: MilvusClient, name: str) -> Routes:
    """The routes as they were KNOWN_SECONDS ago or, while they are read anew, a little earlier: what they name is
    searchable for longer than that."""
    known = KNOWN.setdefault(client, {}).setdefault(name, Known())
    # Threads that know some routes go on by them while one reads; the others wait.
    if known.is_fresh() or not known.reading.acquire(blocking=known.routes is None):
        assert known.routes
        return known.routes
    try:
        if not known.is_fresh():
            now = time.monotonic()
            # Asked once, where current_routes asks three times: what is gone meanwhile, the search itself finds.
            read = routes_behind if known.routes and not is_lite(client) else current_routes
            known.routes, known.at = read(client, name), now
        assert known.routes
        return known.routes
    finally:
        known.reading.release()


def current_routes(client: MilvusClient, name: str) -> Routes:
    routes = read_routes(client, name)
    if routes is None or not client.has_collection(routes.collection):
        raise nothing_indexed(name)
    if is_lite(client):
        # A file that was opened anew has nothing loaded.
        load(client, routes.collection, routes.live)
    return routes


def nothing_indexed(name: str) -> MilvusError:
    return MilvusError(f"Nothing is indexed yet under {name}. Run `lakevec run --once` first.")


def is_outdated(error: MilvusException) -> bool:
    """Whether a request named a generation, or a collection, that is released or dropped by now."""
    text = str(error)
    return any(words in text for words in GONE) or ("partition name" in text and "not found" in text)


def ranges_within(ranges: Iterable[str], since: int | None, until: int | None) -> list[str]:
    """The ranges that hold any of since <= time < until, in order of time."""
    found = []
    for name in ranges:
        first, end = range_bounds(name)
        if (since is None or since < end) and (until is None or first < until):
            found.append((first, name))
    return [name for _, name in sorted(found)]


def time_filter(ranges: Sequence[str], since: int | None, until: int | None) -> str:
    """A Milvus expression, empty where the ranges lie wholly in since <= time < until."""
    bounds = [range_bounds(name) for name in ranges]
    parts = []
    if since is not None and any(first < since for first, _ in bounds):
        parts.append(f"doc_timestamp >= {since}")
    if until is not None and any(end > until for _, end in bounds):
        parts.append(f"doc_timestamp < {until}")
    return " and ".join(parts)


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970-01-01 UTC, rounded up, as bounds of stored whole milliseconds are."""
    return -((EPOCH - moment) // MILLISECOND)


def hit_of(found: dict) -> Hit:
    row = found["entity"]
    return Hit(
        score=found["distance"],
        text=row["text"],
        uri=row["uri"],
        title=row["title"],
        heading_path=row["heading_path"],
        page=row["page"] or None,
        start=row["start"],
        end=row["end"],
        doc_timestamp=EPOCH + timedelta(milliseconds=row["doc_timestamp"]),
        doc_id=row["doc_id"],
        chunk_id=row["chunk_id"],
    )
