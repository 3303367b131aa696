"""Where `files` cannot be relied on after an ingest that was cut off.

Documents are committed before the rows of `files` that tell of them. In between, `files` knows of the
version before: if that comes back, or if the file goes, a listing shows no difference.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from .changes import UPDATE
from .tables import REASON

UNSURE = ("size", "modified_at")


def doubtful(files: DataFrame, documents: DataFrame) -> DataFrame:
    """Actions on FILES: rows of files of which `documents` may hold another version lose what is UNSURE.

    So they differ from every listing. Documents whose file is unknown give it a row. Of a file of which something is
    forgotten the hash stays, which keeps the bytes away that it had: it is read again for its state.
    """
    there = documents.groupBy("uri").agg(F.count("*").alias("_documents"), F.max("changed_at").alias("_changed_at"))
    is_sure = (
        F.col("seen_at").isNotNull()
        & (F.coalesce("_documents", F.lit(0)) == F.coalesce("documents", F.lit(0)))
        & F.coalesce(F.col("_changed_at") <= F.col("seen_at"), F.lit(True))
    )
    state = F.coalesce("state", F.lit("parsed"))
    has_memory = F.size(F.coalesce("forgotten", F.array())) > 0
    reason = reason_of("ingest", "CutOff", "an ingest was cut off while it wrote what it had read of this file")
    is_read_again = has_memory & (state == "parsed")
    return (
        files.join(there, "uri", "full_outer")
        .where(~is_sure)
        .withColumns(
            {
                **{name: F.lit(None).cast(files.schema[name].dataType) for name in UNSURE},
                "hash": F.when(has_memory | (state == "forgotten"), F.col("hash")),
                "state": F.when(is_read_again, "quarantined").otherwise(state),
                "reason": F.when(is_read_again, reason).otherwise(F.col("reason")),
            }
        )
        .select(*files.columns, F.lit(UPDATE).alias("action"))
    )


def reason_of(stage: str, error_class: str, message: str) -> Column:
    """Why a file is read again that nobody has tried to read again yet."""
    told = F.struct(
        F.lit(stage).alias("stage"),
        F.lit(error_class).alias("error_class"),
        F.lit(message).alias("message"),
        F.lit(0).alias("attempts"),
        F.current_timestamp().alias("at"),
    )
    return told.cast(REASON)
