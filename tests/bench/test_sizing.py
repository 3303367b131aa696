"""What `lakevec size` says of LAKEVEC_BENCH_SIZE passages, a million if it is not set, against a load of as many.

Vectors are synthetic, over four years, in an index of LAKEVEC_BENCH_INDEX. Memory is that of the server's process above
what it had when it was empty: at most while it loads, and when it has begun anew and answers.
"""

import os
from pathlib import Path

import pytest
from lakevec.jobs.lake.tables import EMBEDDINGS
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.size import BUILDING, BYTES_PER_TOKEN, HEADROOM, ROWS_BUILT, Demand, size
from lakevec.jobs.vectors import server
from lakevec.jobs.vectors.connection import MilvusAddress
from pyspark.sql import functions as F

from .test_load import synthetic_embeddings, timed

ROWS = int(os.environ.get("LAKEVEC_BENCH_SIZE", "1000000"))
INDEX = os.environ.get("LAKEVEC_BENCH_INDEX", "IVF_SQ8")

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3 * 3600)]


def bytes_of(pid: int, line: str) -> int:
    """VmRSS, or VmHWM, of a process. Linux alone."""
    (told,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith(line)]
    return int(told.split()[1]) * 1024


def test_a_million_rows_weigh_and_take_what_size_says(new_lakehouse, tmp_path, keep):
    folder = tmp_path / "milvus"
    begun = server.start(folder)
    assert begun.uri
    assert begun.pid
    try:
        lakehouse = new_lakehouse(tmp_path, f"milvus.uri={begun.uri}", f"index.type={INDEX}", "mlflow.experiment=")
        lake, spark = lakehouse.lake(), lakehouse.spark
        lake.tables.append(EMBEDDINGS, synthetic_embeddings(spark, ROWS, lake.model.dimension, lake.model.id))
        ((characters,),) = lake.tables.read(EMBEDDINGS).select(F.avg(F.length("text"))).collect()
        told = size(Demand(ROWS, lake.model.dimension, INDEX, tokens=round(characters / BYTES_PER_TOKEN)))
        empty = bytes_of(begun.pid, "VmRSS")
        address = MilvusAddress(begun.uri)
        loaded, seconds = timed(
            lambda: load(lake, lakehouse.settings, address, Progress(terminal=False), str(tmp_path / "staging"))
        )
        assert loaded.loaded == ROWS
        most = bytes_of(begun.pid, "VmHWM") - empty
        server.stop(folder)
        again = server.start(folder)
        assert again.pid
        answering = bytes_of(again.pid, "VmRSS") - empty
    finally:
        server.stop(folder)
    said = told.memory_bytes[INDEX]
    vectors = min(ROWS, ROWS_BUILT) * lake.model.dimension * 4
    computed = (said - vectors * BUILDING) / HEADROOM
    keep(
        {
            "rows": ROWS,
            "index": INDEX,
            "characters_of_a_text": round(characters),
            "load_seconds": seconds,
            "load_rows_per_second": round(ROWS / seconds),
            "core_hours_said": round(told.core_hours["load"], 3),
            "core_hours": round(seconds * (os.cpu_count() or 1) / 3600, 3),
            "gigabytes_said": round(said / 1e9, 2),
            "gigabytes_answering": round(answering / 1e9, 2),
            "gigabytes_at_most_while_loading": round(most / 1e9, 2),
            "headroom": round(answering / computed, 2),
            "building": round((most - answering) / vectors, 2),
        }
    )
