"""Where `files` cannot be relied on after an ingest that was cut off.

Documents are committed before the rows of `files` that tell of them. In between, `files` knows of the
version before: if that comes back, or if the file goes, a listing shows no difference.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .changes import UPDATE

UNSURE = ("size", "modified_at", "hash")


def doubtful(files: DataFrame, documents: DataFrame) -> DataFrame:
    """Actions on FILES: rows of files of which `documents` may hold another version lose what is UNSURE.

    So they differ from every listing. Documents whose file is unknown give it a row.
    """
    there = documents.groupBy("uri").agg(F.count("*").alias("_documents"), F.max("changed_at").alias("_changed_at"))
    is_sure = (
        F.col("seen_at").isNotNull()
        & (F.coalesce("_documents", F.lit(0)) == F.coalesce("documents", F.lit(0)))
        & F.coalesce(F.col("_changed_at") <= F.col("seen_at"), F.lit(True))
    )
    return (
        files.join(there, "uri", "full_outer")
        .where(~is_sure)
        .withColumns({name: F.lit(None).cast(files.schema[name].dataType) for name in UNSURE})
        .withColumn("state", F.coalesce("state", F.lit("parsed")))
        .select(*files.columns, F.lit(UPDATE).alias("action"))
    )
