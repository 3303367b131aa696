"""The change feed of `embeddings`, collapsed: what became of each passage, and where it was before."""

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .changes import last_changes
from .session import materialised
from .stream import LOST_PAST
from .tables import EMBEDDINGS, LakeTables


def embedding_changes(tables: LakeTables, since: int, until: int) -> DataFrame | None:
    """`collapsed` changes of the versions after `since` up to `until`; None where the feed has lost them."""
    if not 0 <= since <= until:
        return None
    if since == until:
        return collapsed(tables.changes(EMBEDDINGS, until, until).where(F.lit(False)))
    try:
        return materialised(collapsed(tables.changes(EMBEDDINGS, since + 1, until)))
    except PySparkException as error:
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
