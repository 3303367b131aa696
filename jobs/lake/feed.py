"""The change feed of `embeddings`, collapsed: what became of each passage, and where it was before."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .session import materialised
from .stream import LOST_PAST
from .tables import EMBEDDINGS, LakeTables


@dataclass(frozen=True)
class EmbeddingChanges:
    """What happened to `embeddings` between two versions.

    rows: `collapsed`; None where nothing happened. upserts, deletes: their rows by time range; a
    delete stands in every range that the passage may have been in. removed: passages that are gone
    and were there before. growth: by how many rows each range grew (or shrank).
    """

    rows: DataFrame | None = None
    upserts: Mapping[str, int] = field(default_factory=dict)
    deletes: Mapping[str, int] = field(default_factory=dict)
    removed: int = 0
    growth: Mapping[str, int] = field(default_factory=dict)

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
    """The last state of each passage, and four columns about its way there.

    deleted: it is gone. ranges: every time range that one of its images names. was_there: it existed
    before the feed's first version, in the range `origin`.
    """
    kind, version = F.col("_change_type"), F.col("_commit_version")
    ended = kind.isin("delete", "update_preimage")
    # A key's first change tells; RESTORE gives delete and insert of a key in one version.
    order = F.struct(version, F.when(ended, 0).otherwise(1))
    last = F.when(kind != "update_preimage", order)
    names = [name for name in feed.columns if not name.startswith("_")]
    return (
        feed.groupBy(F.col("chunk_id").alias("key"))
        .agg(
            F.max_by(F.struct(*names, (kind == "delete").alias("deleted")), last).alias("last"),
            F.collect_set("partition").alias("ranges"),
            F.min_by(ended, order).alias("was_there"),
            F.min_by("partition", order).alias("origin"),
        )
        .select("last.*", "ranges", "was_there", "origin")
    )


def counted(rows: DataFrame) -> EmbeddingChanges:
    """`collapsed` rows and their numbers."""
    is_here, was_here = F.col("range") == F.col("partition"), F.col("was_there") & (F.col("range") == F.col("origin"))
    upserted = (~F.col("deleted") & is_here).cast("long")
    gone = F.col("deleted") & F.col("was_there") & (F.col("range") == F.col("ranges")[0])
    found = (
        rows.select("*", F.explode("ranges").alias("range"))
        .groupBy("range")
        .agg(
            F.sum(upserted).alias("upserts"),
            F.sum(1 - upserted).alias("deletes"),
            F.sum(gone.cast("long")).alias("gone"),
            F.sum(upserted - was_here.cast("long")).alias("growth"),
        )
        .collect()
    )
    return EmbeddingChanges(
        rows,
        {row["range"]: row["upserts"] for row in found if row["upserts"]},
        {row["range"]: row["deletes"] for row in found if row["deletes"]},
        sum(row["gone"] for row in found),
        {row["range"]: row["growth"] for row in found if row["growth"]},
    )


def departures(rows: DataFrame) -> DataFrame:
    """(range, chunk_id): of `collapsed` rows, the ranges in which a passage must not be any more."""
    return (
        rows.select("chunk_id", "deleted", "partition", F.explode("ranges").alias("range"))
        .where("deleted or range <> partition")
        .select("range", "chunk_id")
    )
