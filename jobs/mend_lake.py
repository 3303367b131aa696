"""Mending faults inside the lake, table by table in the order in which rows follow from one another."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from .chunk import chunks_in
from .embed import embeddings_of
from .lake.changes import DELETE, INSERT, UPDATE, apply, named, reconcile
from .lake.doubt import reason_of
from .lake.faults import KEY_SEPARATOR, KEYED
from .lake.lake import Lake
from .lake.session import materialised, parallel_tasks
from .lake.tables import CHUNKS, DOCUMENTS, EMBEDDINGS, FILES, VECTORS, LakeTables, Table

KEYS_PER_REPLACEMENT = 1_000
# Of copies of one key the newest stays, where a table knows which that is.
NEWEST = {FILES.name: "seen_at", DOCUMENTS.name: "changed_at"}


def mend_lake(lake: Lake, faults: DataFrame, numbers: Mapping[str, int]) -> tuple[Counter[str], list[str]]:
    """Mend what Delta alone can mend. Gives rows changed, by table, and what to run for the rest.

    faults: (fault, key). numbers: how many there are of each.
    """
    tables = lake.tables
    done: Counter[str] = Counter()
    advice: list[str] = []

    def keys(*names: str, key: str = "chunk_id") -> DataFrame:
        return faults.where(F.col("fault").isin(*names)).select(F.col("key").alias(key)).distinct()

    def has(*names: str) -> bool:
        return any(numbers.get(name) for name in names)

    for table in KEYED:
        if has(f"doubled_{table.name}"):
            done[table.name] += keep_one(tables, table, keys(f"doubled_{table.name}", key="key"))
    if has("documents_without_file"):
        strays = keys("documents_without_file", key="doc_id").withColumn("action", F.lit(DELETE))
        done["documents"] += apply(tables, DOCUMENTS, strays)[DELETE]
    if has("files_with_other_documents"):
        number = read_again(tables, keys("files_with_other_documents", key="uri"))
        if number:
            advice.append(f"Run `lakevec run --once`: {number:,} files will be read again for documents that are lost.")
        if left := numbers["files_with_other_documents"] - number:
            advice.append(f"Run `lakevec forget` again for {left:,} files: documents of them are still there.")
    changed = tables.spark.createDataFrame([], "chunk_id string")
    if has(
        "documents_without_file",
        "documents_without_all_chunks",
        "chunks_without_document",
        "chunks_other_than_document",
    ):
        actions = split_again(
            lake,
            keys("documents_without_file", "documents_without_all_chunks", key="doc_id"),
            keys("chunks_without_document", "chunks_other_than_document"),
        )
        done["chunks"] += sum(apply(tables, CHUNKS, actions).values())
        changed = actions.select("chunk_id")
    if has("embeddings_without_vector"):
        done["vectors"] += keep_vectors(tables, keys("embeddings_without_vector"))
    of_embeddings = [name for name in numbers if "embedding" in name and not name.startswith("doubled")]
    if done["chunks"] or of_embeddings:
        wrong = keys(*of_embeddings).union(changed).distinct() if of_embeddings else changed.distinct()
        written, waiting = follow_chunks(lake, materialised(wrong))
        done["embeddings"] += written
        if number := waiting.count():
            # Written as they are, so that the stage's feed tells of them, and of no others.
            rows = tables.read(CHUNKS).join(waiting, "chunk_id", "left_semi")
            apply(tables, CHUNKS, rows.withColumn("action", F.lit(UPDATE)))
            advice.append(f"Run `lakevec run --once`: {number:,} chunks have to be embedded.")
    return Counter({name: number for name, number in done.items() if number}), advice


def keep_one(tables: LakeTables, table: Table, doubled: DataFrame) -> int:
    """Leave one row of each of these keys."""
    order = F.desc(NEWEST[table.name]) if table.name in NEWEST else F.lit(1)
    number = F.row_number().over(Window.partitionBy(*table.key).orderBy(order))
    joined = F.concat_ws(KEY_SEPARATOR, *[F.col(name).cast("string") for name in table.key])
    present, first = tables.read(table), table.key[0]
    # What is replaced is named by the key's first column: rows that share it alone are written again as they are.
    firsts = present.withColumn("key", joined).join(doubled, "key", "left_semi").select(first).distinct()
    rows = materialised(present.join(firsts, first, "left_semi").withColumn("_number", number))
    values = sorted(value for (value,) in rows.select(first).distinct().collect())
    for begin in range(0, len(values), KEYS_PER_REPLACEMENT):
        # A MERGE cannot tell copies apart.
        of_part = named(first, values[begin : begin + KEYS_PER_REPLACEMENT])
        tables.replace(table, of_part, rows.where(f"_number = 1 AND {of_part}"))
    return rows.where("_number > 1").count()


def read_again(tables: LakeTables, uris: DataFrame) -> int:
    """Let the next ingest read these files, whatever their bytes, but for forgotten ones. Gives their number."""
    message = "`documents` does not hold what this file gave; the next run reads it again"
    rows = (
        tables.read(FILES)
        .where("state <> 'forgotten'")
        .join(uris, "uri", "left_semi")
        .withColumn("state", F.lit("quarantined"))
        .withColumn("reason", reason_of("verify", "DocumentsMissing", message))
        .withColumn("modified_at", F.lit(None).cast("timestamp"))
    )
    return apply(tables, FILES, rows.withColumn("action", F.lit(UPDATE)))[UPDATE]


def split_again(lake: Lake, doc_ids: DataFrame, chunk_ids: DataFrame) -> DataFrame:
    """Actions on `chunks` that make those of some documents what they should be.

    doc_ids: documents, gone ones too. chunk_ids: chunks whose documents are meant as well.
    """
    tables = lake.tables
    chunks = tables.read(CHUNKS)
    wanted = materialised(doc_ids.union(chunks.join(chunk_ids, "chunk_id", "left_semi").select("doc_id")).distinct())
    documents = tables.read(DOCUMENTS).join(wanted, "doc_id", "left_semi")
    desired = chunks_in(documents, lake.model, lake.chunking, parallel_tasks(tables.spark))
    # By key, not by document: a chunk may name the wrong one.
    present = chunks.join(chunk_ids, "chunk_id", "left_semi").union(
        chunks.join(wanted, "doc_id", "left_semi").select(chunks.columns)
    )
    return materialised(reconcile(desired, present.dropDuplicates(["chunk_id"]), CHUNKS))


def keep_vectors(tables: LakeTables, chunk_ids: DataFrame) -> int:
    """Put the vectors of these embeddings into `vectors`, where they are missing: they were paid for."""
    rows = (
        tables.read(EMBEDDINGS)
        .join(chunk_ids, "chunk_id", "left_semi")
        .select(*VECTORS.schema.names)
        .dropDuplicates(list(VECTORS.key))
        .withColumn("action", F.lit(INSERT))
    )
    return apply(tables, VECTORS, rows)[INSERT]


def follow_chunks(lake: Lake, chunk_ids: DataFrame) -> tuple[int, DataFrame]:
    """Make the embeddings of these chunks what they should be.

    Gives the rows changed, and the keys of chunks that have no vector: their embeddings are left as they are.
    """
    tables = lake.tables
    chunks = tables.read(CHUNKS).join(chunk_ids, "chunk_id", "left_semi")
    known = tables.read(VECTORS).where(F.col("model_id") == lake.model.id)
    vectors = known.join(chunks.select("content_hash").distinct(), "content_hash", "left_semi")
    vectors = materialised(vectors.select("content_hash", "vector").dropDuplicates(["content_hash"]))
    waiting = materialised(chunks.join(vectors, "content_hash", "left_anti").select("chunk_id"))
    ready = chunks.join(waiting, "chunk_id", "left_anti")
    present = tables.read(EMBEDDINGS).join(chunk_ids, "chunk_id", "left_semi").join(waiting, "chunk_id", "left_anti")
    desired = embeddings_of(ready, vectors, lake.model.id, lake.granularity)
    compared = replace(EMBEDDINGS, volatile=frozenset())
    done = apply(tables, EMBEDDINGS, reconcile(desired, present, compared))
    return sum(done.values()), waiting
