"""What Spark costs: passages a second through the embed stage, from Delta to Delta, against the embedder alone.

Both have all cores of the machine: the stage's workers one each, the embedder alone all of them in one process.
Passages are those of LAKEVEC_BENCH_FOLDER (unset: the sample's). Rounds are interleaved; the stage's first run, which
starts its workers and loads their models, is told apart.
"""

import os
import time

import pytest
from lakevec.jobs.embed import embed
from lakevec.jobs.lake.tables import CHUNKS
from lakevec.jobs.progress import Progress
from lakevec.udfs.embed import Embedder
from lakevec.udfs.model import find_model
from pyspark.sql import functions as F

from .passages import passages_of, spread

PASSAGES = int(os.environ.get("LAKEVEC_BENCH_PASSAGES", "1000"))
ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "3"))

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


def test_embed_stage(lakehouse, tmp_path, keep):
    lake, settings, progress = lakehouse.lake(), lakehouse.settings, Progress(terminal=False)
    model = find_model(settings.model.name)
    # The same words under two headings are one text to the stage.
    found = list(dict.fromkeys(passages_of(model.path, tmp_path / "sample")))
    # A passage that comes again is another one.
    texts = [f"{found[at % len(found)]} {at // len(found) or ''}" for at in range((ROUNDS + 1) * PASSAGES)]
    alone = Embedder(model.path, settings.compute)
    rounds = []
    for number in range(ROUNDS + 1):
        some = texts[number * PASSAGES : (number + 1) * PASSAGES]
        lake.tables.append(CHUNKS, chunks_of(lakehouse.spark, some))
        begun = time.monotonic()
        done = embed(lake, settings, progress)
        stage_seconds = time.monotonic() - begun
        assert (done.embedded, done.embeddings) == (PASSAGES, PASSAGES)
        begun = time.monotonic()
        alone.embed(some)
        rounds.append((stage_seconds, time.monotonic() - begun))
    (first, _), *warm = rounds
    keep(
        {
            "passages": PASSAGES,
            "first_seconds": round(first, 1),
            "stage_per_second": spread(PASSAGES / stage for stage, _ in warm),
            "alone_per_second": spread(PASSAGES / kernel for _, kernel in warm),
            "share_lost": spread(1 - kernel / stage for stage, kernel in warm),
        }
    )
