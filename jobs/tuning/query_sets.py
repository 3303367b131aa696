"""Queries to measure by: passages of the lake itself, or questions that people ask."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ...udfs.embed import embedder
from ..errors import ConfigurationError
from ..lake.lake import Lake
from ..lake.tables import EMBEDDINGS
from ..mirror import rows_by
from ..settings import Settings
from ..vectors.segments import LEAST_INDEXED_ROWS
from .measures import LEAST_DECIDING
from .questions import Question, read_questions

SAMPLED, QUESTIONS = "sampled", "questions"
# Of the rows, one in so many is taken away from what is searched, to be searched for.
ROWS_PER_QUERY = 10
LEAST_ROWS = 2 * ROWS_PER_QUERY


@dataclass(frozen=True)
class QuerySet:
    """Queries as vectors. own: the passage that each query is, which is never its own answer; None where what is
    searched does not hold it. judged: question -> document -> grade. digest: tells it from other sets. source:
    where it is from."""

    name: str
    ids: Sequence[str]
    vectors: np.ndarray
    own: Sequence[str | None]
    digest: str
    source: str
    judged: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, numbers: Sequence[int]) -> "QuerySet":
        """Some of the queries."""
        ids = [self.ids[number] for number in numbers]
        judged = {key: self.judged[key] for key in ids if key in self.judged}
        own = [self.own[number] for number in numbers]
        return replace(self, ids=ids, vectors=self.vectors[list(numbers)], own=own, judged=judged)


def sampled(lake: Lake, version: int, count: int, seed: int) -> QuerySet:
    """Passages, chosen by their ids and the seed alone: the same ones however the table's files lie.

    Fewer than `count` where that would be too many of the rows, or would take its index from a partition.
    """
    embeddings = lake.tables.read(EMBEDDINGS, version).select("chunk_id", "partition", "vector")
    rows_of = rows_by(embeddings, F.col("partition"))
    there = sum(rows_of.values())
    if there < LEAST_ROWS:
        raise ConfigurationError(
            f"There is nothing to tune: `embeddings` has fewer than {LEAST_ROWS} rows. Run `lakevec run --once`."
        )
    by_seed = F.sha2(F.concat(F.lit(f"{seed} "), "chunk_id"), 256)
    rows = embeddings.orderBy(by_seed).limit(min(count, there // ROWS_PER_QUERY)).toArrow()
    spared = sparing(rows.column("partition").to_pylist(), rows_of)
    if len(spared) >= min(LEAST_DECIDING, len(rows)):
        rows = rows.take(spared)
    keys = rows.column("chunk_id").to_pylist()
    vectors = np.array(rows.column("vector").to_pylist(), np.float32)
    return QuerySet(SAMPLED, keys, vectors, keys, digest_of(keys), f"{len(keys)} passages, seed {seed}")


def sparing(chosen: Sequence[str], rows_of: Mapping[str, int]) -> list[int]:
    """Which of the chosen rows can be held out of their partitions without leaving too few for an index where there are
    enough. chosen: each row's partition. rows_of: rows of each partition."""
    left, kept = dict(rows_of), []
    for number, name in enumerate(chosen):
        if left[name] != LEAST_INDEXED_ROWS:
            left[name] -= 1
            kept.append(number)
    return kept


def held_out(sets: Sequence[QuerySet]) -> tuple[list[QuerySet], list[str]]:
    """The sets for a search of what holds none of their passages, and these passages' ids.

    A graph leads to a passage that it holds by that passage's own edges, which a question does not have.
    """
    ids = [key for each in sets for key in each.own if key is not None]
    return [replace(each, own=[None] * len(each)) for each in sets], ids


def rows_without(lake: Lake, version: int, ids: Sequence[str]) -> DataFrame:
    """`embeddings` at a version, without these passages."""
    embeddings = lake.tables.read(EMBEDDINGS, version)
    if not ids:
        return embeddings
    away = lake.tables.spark.createDataFrame([(key,) for key in ids], "chunk_id string")
    return embeddings.join(F.broadcast(away), "chunk_id", "left_anti")


def asked(lake: Lake, settings: Settings, path: str) -> QuerySet:
    """The questions of a file or folder, embedded by the lake's model."""
    questions = read_questions(path)
    compute = settings.compute_of_questions
    return QuerySet(
        QUESTIONS,
        [question.id for question in questions],
        embedder(lake.model, compute).embed([question.text for question in questions]),
        [None] * len(questions),
        digest_of([compute.dtype, *(text for each in questions for text in (each.id, each.text))]),
        path,
        judgements(questions),
    )


def judgements(questions: Sequence[Question]) -> dict[str, dict[str, int]]:
    """question -> document -> grade. No answer to a question without a relevant document can be good or bad."""
    graded = {question.id: dict(question.relevant) for question in questions if question.relevant}
    judged = {key: grades for key, grades in graded.items() if max(grades.values()) > 0}
    if without := len(graded) - len(judged):
        structlog.get_logger().info(
            "tune.not_judged", questions=without, reason="all of their documents have grade 0, so none is relevant"
        )
    return judged


def digest_of(texts: Sequence[str]) -> str:
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:16]
