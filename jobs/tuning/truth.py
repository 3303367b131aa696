"""The exact answers: inner products of every query with every row, computed on the executors and kept."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ...udfs.nearest import MOST_TIES, NEIGHBOURS_SCHEMA, TIE, nearest_in_task
from ..lake.lake import Lake
from ..lake.tables import TRUTH
from .measures import Neighbours
from .query_sets import QuerySet, digest_of, rows_without

# So many neighbours are kept: recall is measured up to there.
DEEPEST = 100


@dataclass(frozen=True)
class Truth:
    """seconds: that it took; 0 where it was there."""

    neighbours: list[Neighbours]
    seconds: float


def exact(lake: Lake, version: int, queries: QuerySet, held_out: Sequence[str] = ()) -> Truth:
    """Each query's DEEPEST nearest rows of `embeddings` at a version, and those that tie with the last.

    held_out: passages that are no answer to any query. Read from the table `truth` where they were computed
    before, for the same version, model, queries and held-out passages.
    """
    key = digest_of([queries.digest, *held_out]) if held_out else queries.digest
    if not lake.tables.exists(TRUTH):
        lake.tables.create(TRUTH, {})
    begun, seconds = time.monotonic(), 0.0
    found = kept(lake, version, key)
    if len(found) != len(queries):
        lake.tables.append(TRUTH, rows(lake, version, queries, held_out, key))
        found, seconds = kept(lake, version, key), time.monotonic() - begun
    return Truth([found[key] for key in queries.ids], round(seconds, 3))


def kept(lake: Lake, version: int, key: str) -> dict[str, Neighbours]:
    present = lake.tables.read(TRUTH).where(
        (F.col("version") == version)
        & (F.col("model_id") == lake.model.id)
        & (F.col("queries") == key)
        & (F.col("k") == DEEPEST)
    )
    table = present.select("query_id", "chunk_ids", "scores").toArrow().to_pydict()
    return {
        key: Neighbours(keys, scores)
        for key, keys, scores in zip(table["query_id"], table["chunk_ids"], table["scores"], strict=True)
    }


def rows(lake: Lake, version: int, queries: QuerySet, held_out: Sequence[str], key: str) -> DataFrame:
    """Rows of TRUTH."""
    base = rows_without(lake, version, held_out).select("chunk_id", "vector")
    by_task = base.mapInArrow(partial(nearest_in_task, queries.vectors, list(queries.own), DEEPEST), NEIGHBOURS_SCHEMA)
    ids = F.lit(list(queries.ids))
    return merged(by_task, DEEPEST).select(
        F.lit(version).cast("long").alias("version"),
        F.lit(lake.model.id).alias("model_id"),
        F.lit(key).alias("queries"),
        F.lit(DEEPEST).alias("k"),
        F.get(ids, F.col("query")).alias("query_id"),
        F.col("neighbours.chunk_id").alias("chunk_ids"),
        F.col("neighbours.score").alias("scores"),
    )


def merged(by_task: DataFrame, k: int) -> DataFrame:
    """Each query's k nearest of all tasks' (NEIGHBOURS_SCHEMA), and those that tie with the last."""
    best_first = F.sort_array(F.flatten(F.collect_list("neighbours")), asc=False)
    together = by_task.groupBy("query").agg(best_first.alias("neighbours"))
    last = F.get("neighbours", F.lit(k - 1))["score"]
    ties = F.filter("neighbours", lambda each: F.coalesce(each["score"] >= last - F.lit(TIE), F.lit(True)))
    return together.select("query", F.slice(ties, 1, k + MOST_TIES).alias("neighbours"))
