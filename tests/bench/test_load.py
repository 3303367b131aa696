"""What a load costs beside 100,000 embeddings: the first, one of ten changed rows, one with nothing new.

Vectors are synthetic, over four years; Delta and Milvus are real.
"""

import time

import pytest
from lakevec.jobs.lake.tables import EMBEDDINGS
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.vectors.connection import MilvusAddress
from pyspark.sql import functions as F

ROWS = 100_000
CHANGED = 10

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


def synthetic_embeddings(spark, rows: int, dimension: int, model_id: str):
    """Rows of EMBEDDINGS from 2020 to 2023, a quarter of them in each year."""
    number = F.col("id")
    year = (F.lit(2020) + number % 4).cast("string")
    text = F.concat(F.lit("Passage "), number, F.lit(" of a synthetic document. "), F.repeat(F.lit("words "), 60))
    columns = {
        "chunk_id": F.md5(number.cast("string")),
        "model_id": F.lit(model_id),
        "doc_id": F.md5((number / 20).cast("long").cast("string")),
        "partition": year,
        "doc_timestamp": F.to_timestamp(F.concat(year, F.lit("-06-01"))),
        "uri": F.lit("synthetic.txt"),
        "title": F.lit("Synthetic"),
        "heading_path": F.lit(""),
        "page": F.lit(None).cast("int"),
        "start": F.lit(0),
        "end": F.length(text),
        "text": text,
        "cut": F.lit(None).cast("array<string>"),
        "content_hash": F.md5(text),
        "vector": F.array(*[(F.rand(seed=place) - 0.5).cast("float") for place in range(dimension)]),
    }
    return spark.range(rows).select(*[columns[name].alias(name) for name in EMBEDDINGS.schema.names])


def timed(work):
    begun = time.monotonic()
    result = work()
    return result, round(time.monotonic() - begun, 2)


def test_loads_beside_a_hundred_thousand(lakehouse, tmp_path, keep):
    lake, spark, progress = lakehouse.lake(), lakehouse.spark, Progress(terminal=False)
    address = MilvusAddress(lakehouse.settings.milvus.uri)
    lake.tables.append(EMBEDDINGS, synthetic_embeddings(spark, ROWS, lake.model.dimension, lake.model.id))

    def load_now():
        return load(lake, lakehouse.settings, address, progress, tmp_path / "staging")

    first, first_seconds = timed(load_now)
    assert first.loaded == ROWS
    small = []
    for number in range(4):
        keys = [F.md5(F.lit(str(key))) for key in range(number, ROWS, ROWS // CHANGED)]
        lake.tables.delta(EMBEDDINGS).update(F.col("chunk_id").isin(*keys), {"title": F.lit("Changed")})
        done, seconds = timed(load_now)
        assert done.loaded == CHANGED
        small.append(seconds)
    nothing = []
    for _ in range(4):
        done, seconds = timed(load_now)
        assert (done.loaded, done.built, done.patched) == (0, [], [])
        nothing.append(seconds)
    report = {"rows": ROWS, "first": first_seconds, "ten_rows": small, "nothing_new": nothing}
    keep(report)
