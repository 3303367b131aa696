"""Faults inside the lake: rows that contradict one another, though no stage has work that would mend them."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from .tables import CHUNKS, DOCUMENTS, EMBEDDINGS, FILES, PARTITIONS, VECTORS, LakeTables, Table

# A child before its parent, and vectors last: as they are read.
KEYED = (PARTITIONS, EMBEDDINGS, CHUNKS, DOCUMENTS, FILES, VECTORS)
# What each fault is, and of which rows its keys are.
FAULTS: Mapping[str, str] = {
    "documents_without_file": "documents whose file is not in `files`",
    "files_with_other_documents": "files with other documents than `files` says",
    "documents_without_all_chunks": "documents of which a passage is missing in `chunks`",
    "chunks_without_document": "chunks of a document that is gone",
    "chunks_other_than_document": "chunks that are not their document's text[start:end], or have another title or time",
    "chunks_without_embedding": "chunks without their embedding",
    "embeddings_without_chunk": "embeddings of a chunk that is gone",
    "embeddings_other_than_chunk": "embeddings whose fields or partition are not their chunk's",
    "embeddings_without_vector": "embeddings whose vector is missing in `vectors`",
    "embeddings_other_than_vector": "embeddings with another vector than `vectors`",
    **{f"doubled_{table.name}": f"keys that come more than once in `{table.name}`" for table in KEYED},
}
KEY_SEPARATOR = " "
# What Python takes for white space, as the chunker does.
NOT_SPACE = r"(?U)[^\s\x1c-\x1f]"


def snapshots(tables: LakeTables) -> dict[Table, DataFrame]:
    """The tables as they are at one moment each, by version: a query would see each as it is when that is run."""
    return {table: tables.read(table, tables.version(table)) for table in KEYED}


def faults(rows: Mapping[Table, DataFrame], fields: DataFrame, waiting: Mapping[str, DataFrame]) -> DataFrame:
    """(fault, key), each once. Keys of several columns are joined by KEY_SEPARATOR.

    rows: `snapshots`. fields: rows of EMBEDDINGS without the vector, as `chunks` demands them. waiting: the keys that
    a stage has yet to work off (chunk: doc_id, embed: chunk_id); what concerns them is no fault.
    """
    found = [
        document_faults(rows[FILES], rows[DOCUMENTS]),
        chunk_faults(rows[DOCUMENTS], rows[CHUNKS], waiting.get("chunk")),
        embedding_faults(fields, rows[EMBEDDINGS], rows[VECTORS], waiting.get("embed")),
        *[doubled_keys(each, table.key).select(F.lit(f"doubled_{table.name}").alias("fault"), "key")
          for table, each in rows.items()],
    ]  # fmt: skip
    return reduce(DataFrame.union, found).distinct()


def document_faults(files: DataFrame, documents: DataFrame) -> DataFrame:
    strays = documents.join(files.select("uri"), "uri", "left_anti").select(named("documents_without_file", "doc_id"))
    number = documents.groupBy("uri").agg(F.count_distinct("doc_id").alias("there"))
    others = (
        files.join(number, "uri", "left")
        .where(F.coalesce("there", F.lit(0)) != F.coalesce("documents", F.lit(0)))
        .select(named("files_with_other_documents", "uri"))
    )
    return strays.union(others).select("found.*")


def chunk_faults(documents: DataFrame, chunks: DataFrame, waiting: DataFrame | None) -> DataFrame:
    known = documents.select("doc_id", own_fields(documents).alias("_own"), F.col("text").alias("_text"))
    passage = F.substring("_text", F.col("start") + 1, F.col("end") - F.col("start"))
    of_chunks = (
        chunks.select("chunk_id", "doc_id", "start", "end", row_hash("text").alias("_passage"), own_fields(chunks))
        .toDF("chunk_id", "doc_id", "start", "end", "_passage", "_copied")
        .join(known, "doc_id", "left")
        .select(
            "doc_id",
            F.when(F.col("_own").isNull(), named("chunks_without_document", "chunk_id"))
            .when(
                (row_hash(passage) != F.col("_passage")) | (F.col("_own") != F.col("_copied")),
                named("chunks_other_than_document", "chunk_id"),
            )
            .alias("found"),
        )
    )
    covered = chunks.groupBy("doc_id").agg(
        (F.count_distinct("ordinal") == F.max("ordinal") + 1).alias("_whole"), F.max("end").alias("_end")
    )
    rest = F.substring("_text", F.coalesce("_end", F.lit(0)) + 1, F.length("_text"))
    of_documents = (
        known.join(covered, "doc_id", "left")
        .where(~F.coalesce("_whole", F.lit(True)) | F.regexp_like(rest, F.lit(NOT_SPACE)))
        .select("doc_id", named("documents_without_all_chunks", "doc_id"))
    )
    return without(of_chunks.union(of_documents), waiting, "doc_id").where("found is not null").select("found.*")


def embedding_faults(
    fields: DataFrame, embeddings: DataFrame, vectors: DataFrame, waiting: DataFrame | None
) -> DataFrame:
    names = [name for name in fields.columns if name != "chunk_id"]
    wanted = fields.select("chunk_id", row_hash(*names).alias("_wanted"))
    vector = F.xxhash64("vector")
    # Two copies of a text's vector are another fault, unless they differ.
    known = vectors.groupBy("content_hash", "model_id").agg(F.collect_set(vector).alias("_known"))
    joined = (
        embeddings.select(
            "chunk_id", "content_hash", "model_id", row_hash(*names).alias("_had"), vector.alias("_vector")
        )
        .join(known, ["content_hash", "model_id"], "left")
        .join(wanted, "chunk_id", "full_outer")
    )
    is_there, is_wanted = F.col("_had").isNotNull(), F.col("_wanted").isNotNull()
    conditions = {
        "chunks_without_embedding": ~is_there,
        "embeddings_without_chunk": ~is_wanted,
        "embeddings_other_than_chunk": is_there & is_wanted & (F.col("_had") != F.col("_wanted")),
        "embeddings_without_vector": is_there & F.col("_known").isNull(),
        "embeddings_other_than_vector": is_there & ~F.array_contains("_known", F.col("_vector")),
    }
    found = F.array(*[F.when(condition, named(fault, "chunk_id")) for fault, condition in conditions.items()])
    return (
        without(joined, waiting, "chunk_id").select(F.explode(F.array_compact(found)).alias("found")).select("found.*")
    )


def doubled_keys(rows: DataFrame, key: tuple[str, ...]) -> DataFrame:
    """The key columns and `key`, of keys that come more than once."""
    joined = F.concat_ws(KEY_SEPARATOR, *[F.col(name).cast("string") for name in key]).alias("key")
    return rows.groupBy(*key).count().where("count > 1").select(*key, joined)


def own_fields(rows: DataFrame) -> Column:
    """What a chunk copies from its document."""
    return row_hash(*[rows[name] for name in ("uri", "title", "doc_timestamp")])


def row_hash(*columns: Column | str) -> Column:
    """A hash of 64 bits of these columns; nulls count."""
    given = [F.col(column) if isinstance(column, str) else column for column in columns]
    return F.xxhash64(*given, *[column.isNull() for column in given])


def named(fault: str, key: str) -> Column:
    return F.struct(F.lit(fault).alias("fault"), F.col(key).alias("key")).alias("found")


def without(rows: DataFrame, waiting: DataFrame | None, key: str) -> DataFrame:
    return rows if waiting is None else rows.join(waiting.select(key), key, "left_anti")
