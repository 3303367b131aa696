"""Run by test_gpus in a process of its own: stages of tasks that say which device they had, and when."""

import json
import sys
import time

import pyarrow as pa
from lakevec.jobs import embed
from lakevec.jobs.lake.gpus import device_of_task
from lakevec.jobs.lake.lake import Lake
from lakevec.jobs.lake.tables import LakeTables
from lakevec.jobs.settings import load_settings
from pyspark.sql import SparkSession

SECONDS = 1.5


def at_work(batches, model, compute):
    """In place of a model: what each task was given, in the column of the hash."""
    for batch in batches:
        begin = time.time()
        time.sleep(SECONDS)
        task = {
            "device": compute.device,
            "memory_fraction": compute.memory_fraction,
            "begin": begin,
            "end": time.time(),
        }
        rows = batch.num_rows
        yield pa.record_batch(
            {"content_hash": [json.dumps(task)] * rows, "vector": pa.array([[1.0]] * rows, pa.list_(pa.float32()))}
        )


def parsing(batches):
    for batch in batches:
        begin = time.time()
        time.sleep(SECONDS)
        task = {"device": device_of_task(), "begin": begin, "end": time.time()}
        yield pa.record_batch({"content_hash": [json.dumps(task)] * batch.num_rows})


master, discovery = sys.argv[1:]
spark = (
    SparkSession.builder.master(master)
    .config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.executor.memory", "1g")
    .config("spark.executor.cores", "8")
    .config("spark.executor.resource.gpu.amount", "2")
    .config("spark.executor.resource.gpu.discoveryScript", discovery)
    # So many tasks of the other stages share a GPU that all cores are busy.
    .config("spark.task.resource.gpu.amount", "0.25")
    .config("spark.sql.adaptive.enabled", "false")
    .getOrCreate()
)
embed.with_vectors = at_work
settings = load_settings(overrides=["gpu.tasks=2", "model.device=cpu"])
texts = spark.range(0, 8, 1, 8).selectExpr("string(id) AS content_hash", "'text' AS text")
lake = Lake(LakeTables(spark, ""), "", model=None, chunking=None, granularity="year")
vectors_of = embed.embedding(lake, settings)
# The first job starts the Python workers.
texts.mapInArrow(parsing, "content_hash string").collect()
seen = {
    name: [json.loads(row["content_hash"]) for row in frame.collect()]
    for name, frame in {
        "parsing": texts.mapInArrow(parsing, "content_hash string"),
        "embedding": vectors_of(texts),
    }.items()
}
spark.stop()
print(json.dumps(seen))
