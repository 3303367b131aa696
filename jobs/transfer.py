"""Rows of `embeddings` on their way to Milvus: as upserts, or as import files; from executors where they are many."""

from collections.abc import Mapping
from functools import partial

from pymilvus import MilvusClient
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from .errors import MilvusError
from .lake.session import parallel_tasks
from .vectors.build import FILE, FILES_SCHEMA, ROWS_PER_FILE, ImportFile, Staging, write_files_in_task
from .vectors.connection import MilvusAddress
from .vectors.patch import OUTCOME_SCHEMA, RANGE, upsert, upsert_in_task

# So few rows go to Milvus from here; more go from the executors.
ROWS_FROM_DRIVER = 2_000
ROWS_PER_BATCH = 2_000


def collection_rows(embeddings: DataFrame) -> DataFrame:
    """Rows of EMBEDDINGS in the columns of the collection (vectors/rows.py), and their range."""
    return embeddings.select(
        "chunk_id",
        "doc_id",
        F.unix_millis("doc_timestamp").alias("doc_timestamp"),
        F.coalesce("uri", F.lit("")).alias("uri"),
        F.coalesce("title", F.lit("")).alias("title"),
        F.coalesce("heading_path", F.lit("")).alias("heading_path"),
        "text",
        # Milvus has no null here: page 0 is none.
        F.coalesce("page", F.lit(0)).cast("long").alias("page"),
        F.col("start").cast("long").alias("start"),
        F.col("end").cast("long").alias("end"),
        "vector",
        F.col("partition").alias(RANGE),
    )


def upsert_rows(
    embeddings: DataFrame,
    rows_of: Mapping[str, int],
    partitions: Mapping[str, str],
    client: MilvusClient,
    address: MilvusAddress,
    collection: str,
    dimension: int,
) -> None:
    """Upsert rows of EMBEDDINGS, each into its range's partition.

    rows_of: their numbers by range. partitions: range -> partition.
    Raises MilvusError for rows that may not be written; those are not.
    """
    rows = collection_rows(embeddings)
    if sum(rows_of.values()) <= ROWS_FROM_DRIVER:
        pieces = [rows]
    elif address.is_lite:
        # One process at a time may open it: this one. A range at a time fits memory.
        pieces = [rows.where(F.col(RANGE) == name) for name in rows_of]
    else:
        write = partial(upsert_in_task, address, collection, dict(partitions), dimension)
        outcomes = rows.repartition(parallel_tasks(rows.sparkSession)).mapInArrow(write, OUTCOME_SCHEMA)
        raise_problems(outcomes.collect())
        return
    for piece in pieces:
        for batch in piece.toArrow().to_batches(ROWS_PER_BATCH):
            upsert(client, collection, batch, partitions, dimension)


def write_import_files(
    embeddings: DataFrame, rows_of: Mapping[str, int], staging: Staging, dimension: int
) -> list[ImportFile]:
    """Import files of rows of EMBEDDINGS, about ROWS_PER_FILE in each, none with rows of two ranges.

    rows_of: their numbers by range. Raises MilvusError for rows that may not be written.
    """
    files_of = {name: -(-rows // ROWS_PER_FILE) for name, rows in rows_of.items()}
    split = {name: files for name, files in files_of.items() if files > 1}
    number = F.lit(1)
    if split:
        pairs = [F.lit(value) for pair in split.items() for value in pair]
        number = F.coalesce(F.create_map(*pairs)[F.col(RANGE)], number)
    rows = (
        collection_rows(embeddings)
        .withColumn(FILE, F.pmod(F.xxhash64("chunk_id"), number).cast("int"))
        .repartition(sum(files_of.values()), RANGE, FILE)
        .sortWithinPartitions(RANGE, FILE)
    )
    written = rows.mapInArrow(partial(write_files_in_task, staging, dimension), FILES_SCHEMA).collect()
    raise_problems(written)
    return [ImportFile(row["range"], row["path"], row["rows"]) for row in written]


def raise_problems(outcomes: list[Row]) -> None:
    """Raise MilvusError for tasks that had any; where Milvus was away from all of them, patience.py knows it by the
    cause."""
    found = [row for row in outcomes if row["problem"] is not None]
    if found:
        away = all("is_away" in row and row["is_away"] for row in found)
        raise MilvusError("\n".join(row["problem"] for row in found[:3])) from (ConnectionError() if away else None)
