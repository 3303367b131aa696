"""What ten changed rows cost beside LAKEVEC_BENCH_ROWS embeddings, against merging the whole table again.

The peer is what a hand-written job does at each trigger: a MERGE of all rows that updates those which differ, with
`whenNotMatchedBySource` for the deletions; once, as it takes minutes. Vectors are synthetic; Delta and Milvus are real.
"""

import os
import time
from hashlib import md5
from statistics import median

import pytest
from lakevec.jobs.embed import embed
from lakevec.jobs.lake.tables import CHUNKS, EMBEDDINGS, VECTORS
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.vectors.connection import MilvusAddress
from pyspark.sql import functions as F

ROWS = int(os.environ.get("LAKEVEC_BENCH_ROWS", "100000"))
CHANGED, ROUNDS = 10, 5

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


def synthetic_chunks(spark, rows: int, first: int = 0):
    number = F.col("id")
    text = F.concat(F.lit("Passage "), number, F.lit(" of a synthetic document. "), F.repeat(F.lit("words "), 60))
    return spark.range(first, first + rows).select(
        F.md5(number.cast("string")).alias("chunk_id"),
        F.md5((number / 20).cast("long").cast("string")).alias("doc_id"),
        (number % 20).cast("int").alias("ordinal"),
        F.lit(0).alias("start"),
        F.length(text).alias("end"),
        text.alias("text"),
        F.lit("").alias("prefix"),
        F.md5(text).alias("content_hash"),
        F.lit(80).alias("tokens"),
        F.lit("").alias("heading_path"),
        F.lit(None).cast("int").alias("page"),
        F.lit(None).cast("int").alias("last_page"),
        F.lit("synthetic.txt").alias("uri"),
        F.lit("Synthetic").alias("title"),
        F.timestamp_seconds(F.lit(1_700_000_000)).alias("doc_timestamp"),
    )


def bytes_written(lake) -> dict[str, int]:
    """Of the newest version of `embeddings`: bytes added and removed, by Delta's own metrics."""
    metrics = lake.tables.delta(EMBEDDINGS).history(1).select("operationMetrics").first()[0]
    return {
        "bytes_added": int(metrics.get("numTargetBytesAdded", 0)),
        "bytes_removed": int(metrics.get("numTargetBytesRemoved", 0)),
        "files_removed": int(metrics.get("numTargetFilesRemoved", 0)),
    }


def timed(work):
    begun = time.monotonic()
    result = work()
    return result, round(time.monotonic() - begun, 2)


def synthetic_vectors(lake, rows: int):
    parts = [(F.rand(seed=place) - 0.5).cast("float") for place in range(lake.model.dimension)]
    return synthetic_chunks(lake.tables.spark, rows).select(
        "content_hash", F.lit(lake.model.id).alias("model_id"), F.array(*parts).alias("vector")
    )


def test_ten_changed_rows_beside_many(new_lakehouse, tmp_path, keep):
    # An index that costs nothing to build: it is not what is measured.
    lakehouse = new_lakehouse(tmp_path, "index.type=FLAT", f"load.staging={tmp_path / 'staging'}", "mlflow.experiment=")
    lake, progress = lakehouse.lake(), Progress(terminal=False)
    address = MilvusAddress(lakehouse.settings.milvus.uri)
    lake.tables.append(CHUNKS, synthetic_chunks(lakehouse.spark, ROWS))
    lake.tables.append(VECTORS, synthetic_vectors(lake, ROWS + ROUNDS * CHANGED))
    first, first_seconds = timed(lambda: embed(lake, lakehouse.settings, progress))
    assert (first.embedded, first.embeddings) == (0, ROWS)
    _, first_load_seconds = timed(lambda: load(lake, lakehouse.settings, address, progress, str(tmp_path / "staging")))

    half = CHANGED // 2
    ours = []
    for number in range(ROUNDS):
        lake.tables.append(CHUNKS, synthetic_chunks(lakehouse.spark, half, ROWS + number * half))
        edited = [md5(str(row + number).encode()).hexdigest() for row in range(0, ROWS, ROWS // half)]
        lake.tables.delta(CHUNKS).update(F.col("chunk_id").isin(edited), {"title": F.lit("Changed")})
        second, embed_seconds = timed(lambda: embed(lake, lakehouse.settings, progress))
        assert second.embeddings == half + len(edited)
        written = bytes_written(lake)
        assert written["bytes_removed"] == 0
        loaded, load_seconds = timed(
            lambda: load(lake, lakehouse.settings, address, progress, str(tmp_path / "staging"))
        )
        assert loaded.loaded == second.embeddings
        ours.append({"embed_seconds": embed_seconds, "load_seconds": load_seconds, **written})

    source = (
        lake.tables.read(EMBEDDINGS)
        .withColumn("title", F.when(F.col("chunk_id").isin(edited), "Changed again").otherwise(F.col("title")))
        .localCheckpoint()
    )

    def merge_everything():
        (
            lake.tables.delta(EMBEDDINGS)
            .alias("present")
            .merge(source.alias("wanted"), "present.chunk_id = wanted.chunk_id")
            .whenMatchedUpdateAll("present.title <> wanted.title")
            .whenNotMatchedInsertAll()
            .whenNotMatchedBySourceDelete()
            .execute()
        )

    _, peer_seconds = timed(merge_everything)
    peer = {"merge_seconds": peer_seconds, **bytes_written(lake)}

    report = {
        "rows": ROWS,
        "changed": CHANGED,
        "first_embed_seconds": first_seconds,
        "first_load_seconds": first_load_seconds,
        "lakevec, round by round": ours,
        "merge of the whole table": peer,
        "times_faster": round(peer_seconds / median(each["embed_seconds"] for each in ours), 1),
    }
    keep(report)
