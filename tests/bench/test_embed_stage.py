"""What Spark costs: passages a second through the embed stage, from Delta to Delta, against the embedder alone.

Both have as many processes as there are cores, of one thread each, and the same work in them. Passages are those of
LAKEVEC_BENCH_FOLDER (unset: the sample's). Rounds are interleaved, in turns; the first, in which both start their
processes and load their models, is told apart.
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pyarrow as pa
import pytest
import torch
from lakevec.jobs.embed import embed
from lakevec.jobs.lake.lake import open_lake
from lakevec.jobs.lake.session import parallel_tasks
from lakevec.jobs.lake.tables import CHUNKS
from lakevec.jobs.progress import Progress
from lakevec.udfs.embed import Embedder, with_vectors
from lakevec.udfs.model import Compute, Model, find_model
from pyspark.sql import functions as F

from .passages import deciles_of_tokens, passages_of, spread

PASSAGES = int(os.environ.get("LAKEVEC_BENCH_PASSAGES", "1000"))
ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "3"))
DTYPE = os.environ.get("LAKEVEC_BENCH_DTYPE", "float32")

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def chunks_of(spark, texts: list[str]):
    """Rows of CHUNKS, a document each."""
    rows = spark.createDataFrame([(text,) for text in texts], "text string").withColumn("content_hash", F.md5("text"))
    blank = {name: F.lit("") for name in ("prefix", "heading_path", "uri", "title")}
    zero = {name: F.lit(0) for name in ("ordinal", "start", "end", "tokens", "page", "last_page")}
    made = blank | zero | {"doc_timestamp": F.timestamp_seconds(F.lit(1_700_000_000))}
    made |= {name: F.col("content_hash") for name in ("chunk_id", "doc_id")}
    return rows.select(
        *[made.get(field.name, F.col(field.name)).cast(field.dataType).alias(field.name) for field in CHUNKS.schema]
    )


def test_embed_stage(new_lakehouse, tmp_path, keep):
    # A lake of its own, as its format is recorded when it is made.
    lakehouse = new_lakehouse(tmp_path, f"model.dtype={DTYPE}", f"lake.path={tmp_path}/made")
    settings, progress = lakehouse.settings, Progress(terminal=False)
    lake, compute = open_lake(lakehouse.spark, settings, create=True), settings.compute
    model = find_model(settings.model.name)
    # The same words under two headings are one text to the stage.
    found = list(dict.fromkeys(passages_of(model.path, tmp_path / "sample")))
    # A passage that comes again is another one.
    texts = [f"{found[at % len(found)]} {at // len(found) or ''}" for at in range((ROUNDS + 1) * PASSAGES)]
    tasks = parallel_tasks(lakehouse.spark)
    arrow_rows = int(lakehouse.spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch"))
    rounds = []
    with ProcessPoolExecutor(tasks, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def through_stage(some: list[str]) -> None:
            done = embed(lake, settings, progress)
            assert (done.embedded, done.embeddings) == (PASSAGES, PASSAGES)

        def alone(some: list[str]) -> None:
            done = pool.map(
                partial(embedded, model, compute, arrow_rows), [some[first::tasks] for first in range(tasks)]
            )
            assert sum(done) == PASSAGES

        for number in range(ROUNDS + 1):
            some = texts[number * PASSAGES : (number + 1) * PASSAGES]
            lake.tables.append(CHUNKS, chunks_of(lakehouse.spark, some))
            taken = {}
            for way in (through_stage, alone)[:: 1 if number % 2 else -1]:
                begun = time.monotonic()
                way(some)
                taken[way.__name__] = time.monotonic() - begun
            rounds.append((taken["through_stage"], taken["alone"]))
    (first, _), *warm = rounds
    lengths = Embedder(model.path, compute).model.tokens(pa.array(texts, pa.large_string())).lengths
    keep(
        {
            "passages": PASSAGES,
            "dtype": compute.dtype,
            "deciles_of_tokens": deciles_of_tokens(lengths),
            "processes": tasks,
            "first_seconds": round(first, 1),
            "stage_seconds": spread(stage for stage, _ in warm),
            "alone_seconds": spread(kernel for _, kernel in warm),
            "stage_per_second": spread(PASSAGES / stage for stage, _ in warm),
            "alone_per_second": spread(PASSAGES / kernel for _, kernel in warm),
            "share_lost": spread(1 - kernel / stage for stage, kernel in warm),
        }
    )


def embedded(model: Model, compute: Compute, arrow_rows: int, texts: list[str]) -> int:
    """What a task of the stage does, but for Spark; gives the number of vectors."""
    batches = pa.table({"text": pa.array(texts, pa.string())}).to_batches(max_chunksize=arrow_rows)
    return sum(batch.num_rows for batch in with_vectors(iter(batches), model, compute))
