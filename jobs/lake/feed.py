"""The change feed of `embeddings`, collapsed: what became of each passage, and where it was before."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .changes import last_changes
from .session import materialised
from .stream import LOST_PAST
from .tables import EMBEDDINGS, LakeTables


@dataclass(frozen=True)
class EmbeddingChanges:
    """What happened to `embeddings` between two versions.

    rows: `collapsed`; None where nothing happened. upserts, deletes: their rows by time range; a
    delete stands in every range that the passage may have been in. removed: passages that are gone
    and were there before.
    """

    rows: DataFrame | None = None
    upserts: Mapping[str, int] = field(default_factory=dict)
    deletes: Mapping[str, int] = field(default_factory=dict)
    removed: int = 0

    @property
    def by_range(self) -> dict[str, int]:
        """Upserts and deletes together."""
        names = self.upserts.keys() | self.deletes.keys()
        return {name: self.upserts.get(name, 0) + self.deletes.get(name, 0) for name in names}


def embedding_changes(tables: LakeTables, since: int, until: int) -> EmbeddingChanges | None:
    """The changes of the versions after `since` up to `until`; None where the feed does not have them."""
    if since == until:
        return EmbeddingChanges()
    if not 0 <= since < until:
        return None
    try:
        return counted(materialised(collapsed(tables.changes(EMBEDDINGS, since + 1, until))))
    # What fails within a task comes out of localCheckpoint as py4j's error.
    except (PySparkException, Py4JJavaError) as error:
        if any(condition in str(error) for condition in LOST_PAST):
            return None
        raise


def collapsed(feed: DataFrame) -> DataFrame:
    """The last state of each passage, and three columns about its way there.

    deleted: it is gone. ranges: every time range that one of its images names. was_there: it existed
    before the feed's first version.
    """
    ended = F.col("_change_type").isin("delete", "update_preimage")
    # A key's first change tells; RESTORE gives delete and insert of a key in one version.
    order = F.struct("_commit_version", F.when(ended, 0).otherwise(1))
    way = feed.groupBy("chunk_id").agg(
        F.collect_set("partition").alias("ranges"), F.min_by(ended, order).alias("was_there")
    )
    return last_changes(feed, "chunk_id").join(way, "chunk_id")


def counted(rows: DataFrame) -> EmbeddingChanges:
    """`collapsed` rows and their numbers."""
    upserts: dict[str, int] = {}
    deletes: dict[str, int] = {}
    removed = 0
    gone = F.col("deleted") & F.col("was_there") & (F.col("range") == F.col("ranges")[0])
    found = (
        rows.select("*", F.explode("ranges").alias("range"))
        .groupBy("range", (~F.col("deleted") & (F.col("range") == F.col("partition"))).alias("is_upsert"))
        .agg(F.count("*").alias("rows"), F.sum(gone.cast("long")).alias("gone"))
        .collect()
    )
    for row in found:
        (upserts if row["is_upsert"] else deletes)[row["range"]] = row["rows"]
        removed += row["gone"]
    return EmbeddingChanges(rows, upserts, deletes, removed)


def departures(rows: DataFrame) -> DataFrame:
    """(range, chunk_id): of `collapsed` rows, the ranges in which a passage must not be any more."""
    return (
        rows.select("chunk_id", "deleted", "partition", F.explode("ranges").alias("range"))
        .where("deleted or range <> partition")
        .select("range", "chunk_id")
    )
