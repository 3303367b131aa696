"""How long documents took from their file's modification until their passages could be found.

Each load writes one row of `metrics`: percentiles for people, and enough of the distribution to put
several loads together.
"""

import math
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .changes import keys_named, keys_of
from .session import materialised
from .tables import EMBEDDINGS, FILES, METRICS, LakeTables

# Of more documents than this, a row keeps evenly spaced quantiles.
MOST_KEPT = 1_000
# So many files' arrivals are remembered until their passages can be found.
MOST_ARRIVALS = 10_000
# A run that goes on for weeks puts so many of its loads together.
MOST_ROWS = 100
# Of a run that has gone on for days, its last loads tell how fresh the index is.
MOST_LOADS = 10_000


@dataclass(frozen=True)
class Freshness:
    """Seconds from a file's modification to its documents' being searchable; None where there was none.

    A file that came with an old modification time counts from the last listing that did not have
    it; what the source held before the lake was made, from the first listing.
    """

    documents: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    slowest: float | None = None


def seconds_until(
    searchable_at: datetime, rows: DataFrame, files: DataFrame, known: Mapping[str, float | None]
) -> np.ndarray:
    """Seconds of each document, ascending. rows: with doc_id and uri, which became searchable then.

    known: when some of the files came, which is not looked up again (seconds since 1970)."""
    documents = keys_of(rows, "doc_id", "uri")
    arrived = files.where("arrived_at is not null").select("uri", F.col("arrived_at").cast("double"))
    if documents.few is not None:
        uris = {uri for _, uri in documents.few}
        # Another thread adds files, and drops the oldest.
        there = dict(known)
        at = {uri: there[uri] for uri in uris if uri in there}
        if unknown := uris - at.keys():
            found = keys_named(rows.sparkSession, "uri", unknown).among(arrived, "uri")
            at |= {row["uri"]: row["arrived_at"] for row in found.collect()}
        arrivals = [at[uri] for _, uri in set(documents.few) if at.get(uri) is not None]
    else:
        found = rows.select("doc_id", "uri").distinct().join(arrived, "uri")
        arrivals = found.select("arrived_at").toArrow()["arrived_at"].to_numpy()
    return np.sort(np.maximum(searchable_at.timestamp() - np.asarray(arrivals, np.float64), 0.0))


def summary(seconds: np.ndarray, weights: np.ndarray | None = None, documents: int | None = None) -> Freshness:
    """Percentiles of ascending seconds: the smallest value that so large a share does not exceed."""
    if not len(seconds):
        return Freshness()
    weights = np.ones(len(seconds)) if weights is None else weights
    share = np.cumsum(weights) / weights.sum()
    p50, p95, p99 = (
        round(float(seconds[min(np.searchsorted(share, part - 1e-9), len(seconds) - 1)]), 3)
        for part in (0.5, 0.95, 0.99)
    )
    return Freshness(documents or len(seconds), p50, p95, p99, round(float(seconds[-1]), 3))


def kept(seconds: np.ndarray) -> np.ndarray:
    """All of them, or of many so many quantiles, the smallest and the largest included."""
    if len(seconds) <= MOST_KEPT:
        return seconds
    return seconds[np.linspace(0, len(seconds) - 1, MOST_KEPT).round().astype(int)]


def together(loads: Iterable[Mapping]) -> Freshness:
    """Several rows of METRICS as one."""
    loads = [load for load in loads if load["documents"]]
    if not loads:
        return Freshness()
    seconds = np.concatenate([np.asarray(load["seconds"]) for load in loads])
    weights = np.concatenate(
        [np.full(len(load["seconds"]), load["documents"] / len(load["seconds"])) for load in loads]
    )
    order = np.argsort(seconds)
    return summary(seconds[order], weights[order], sum(load["documents"] for load in loads))


def merged(loads: Iterable[Mapping]) -> dict:
    """Several rows of METRICS as one for `together`: their documents, and as many of their seconds as a row keeps."""
    loads = list(loads)
    seconds = np.concatenate([np.asarray(load["seconds"]) for load in loads])
    weights = np.concatenate(
        [np.full(len(load["seconds"]), load["documents"] / len(load["seconds"])) for load in loads]
    )
    order = np.argsort(seconds)
    share = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(share, np.linspace(0, 1, MOST_KEPT)[1:-1])
    inner = seconds[order][np.minimum(places, len(seconds) - 1)]
    return {
        "documents": sum(load["documents"] for load in loads),
        "seconds": [float(seconds.min()), *inner.tolist(), float(seconds.max())],
    }


def metrics_row(run: str, at: datetime, seconds: np.ndarray) -> dict:
    """A row of METRICS."""
    found = summary(seconds)
    return {
        "run": run,
        "at": at,
        "documents": found.documents,
        "p50": found.p50,
        "p95": found.p95,
        "p99": found.p99,
        "slowest": found.slowest,
        "seconds": kept(seconds).tolist(),
    }


class RunMetrics:
    """The rows that one run writes into `metrics`; `run` names it.

    seconds_apart: a load that follows another so soon has its row written with a later one's, or by `write`.
    """

    def __init__(self, tables: LakeTables, seconds_apart: float = 0.0):
        self.tables, self.run, self.seconds_apart = tables, uuid.uuid4().hex[:16], seconds_apart
        self.rows: list[dict] = []
        self.unwritten: list[dict] = []
        self.written_at = -math.inf
        self.arrivals: dict[str, float | None] = {}

    def arrived(self, files: Iterable[tuple]) -> None:
        """These rows of `files` have just been written."""
        uri, arrived_at = FILES.schema.names.index("uri"), FILES.schema.names.index("arrived_at")
        for file in files:
            # The one that came last stands last.
            self.arrivals.pop(file[uri], None)
            self.arrivals[file[uri]] = file[arrived_at] and file[arrived_at].timestamp()
        while len(self.arrivals) > MOST_ARRIVALS:
            self.arrivals.pop(next(iter(self.arrivals)))

    def searchable(self, rows: DataFrame | None) -> None:
        """These rows of `embeddings` have just become searchable; None: all, if none ever was."""
        now = datetime.now(UTC)
        if rows is None:
            # Later, that is a Milvus that lost what it had: no document is new by it.
            if not self.tables.present(METRICS).isEmpty():
                return
            # Rows are many where their documents may still be few enough to be named.
            rows = materialised(self.tables.read(EMBEDDINGS).select("doc_id", "uri").distinct())
        seconds = seconds_until(now, rows, self.tables.read(FILES), self.arrivals)
        if len(seconds):
            row = metrics_row(self.run, now, seconds)
            self.rows.append(row)
            if len(self.rows) > MOST_ROWS:
                self.rows = [merged(self.rows)]
            self.unwritten.append(row)
        if time.monotonic() - self.written_at >= self.seconds_apart:
            self.write()

    def write(self) -> None:
        """What is not in `metrics` yet."""
        values = [tuple(row[name] for name in METRICS.schema.names) for row in self.unwritten]
        if values:
            self.tables.append(METRICS, self.tables.spark.createDataFrame(values, METRICS.schema))
            self.written_at, self.unwritten = time.monotonic(), []

    @property
    def freshness(self) -> Freshness:
        return together(self.rows)


def last_run(tables: LakeTables) -> Freshness:
    """Of the run that wrote into `metrics` last; of a long one, of its last MOST_LOADS loads."""
    newest = tables.read(METRICS).orderBy(F.desc("at")).select("run").limit(1).collect()
    if not newest:
        return Freshness()
    loads = tables.read(METRICS).where(F.col("run") == newest[0]["run"]).orderBy(F.desc("at")).limit(MOST_LOADS)
    return together(row.asDict() for row in loads.select("documents", "seconds").collect())
