"""Rows that changed, into a collection that is served: a load, which patches them, against pymilvus's upserts of 1,000.

About LAKEVEC_BENCH_CHANGED rows, such as "1000 10000", of LAKEVEC_BENCH_ROWS change before each round. Both write the
same rows into the same partitions, in turns. lakevec finds them in the change feed of `embeddings`, checks every row
and publishes how far it is; its peer reads Parquet files with the collection's columns, which nobody counts the making
of. Theirs is the time after their Python started.
"""

import os

import pytest
from lakevec.jobs.lake.tables import EMBEDDINGS
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.transfer import collection_rows
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.patch import RANGE
from lakevec.jobs.vectors.routes import read_routes
from pyspark.sql import functions as F

from .passages import spread
from .peer import PEERS, environment, timed
from .test_load import synthetic_embeddings

ROWS = int(os.environ.get("LAKEVEC_BENCH_ROWS", "100000"))
SIZES = [int(number) for number in os.environ.get("LAKEVEC_BENCH_CHANGED", "1000 10000").split()]
ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "3"))

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def test_patch(new_lakehouse, tmp_path, keep):
    lakehouse = new_lakehouse(tmp_path, "index.type=FLAT", "mlflow.experiment=")
    lake, settings, staging = lakehouse.lake(), lakehouse.settings, str(tmp_path / "staging")
    address, program = MilvusAddress(settings.milvus.uri), PEERS / "upsert_with_pymilvus.py"
    lake.tables.append(EMBEDDINGS, synthetic_embeddings(lakehouse.spark, ROWS, lake.model.dimension, lake.model.id))
    assert load(lake, settings, address, Progress(terminal=False), staging).loaded == ROWS
    routes = read_routes(connect(address), settings.milvus.collection)
    assert routes
    python, figures = environment("pymilvus"), {}
    for size in SIZES:
        rounds: list[dict[str, float]] = []
        for number in range(ROUNDS):
            title, folder = f"Changed {size} {number}", tmp_path / f"{size}-{number}"
            some = F.pmod(F.xxhash64("chunk_id", F.lit(number)), F.lit(ROWS)) < size
            lake.tables.delta(EMBEDDINGS).update(some, {"title": F.lit(title)})
            changed = lake.tables.read(EMBEDDINGS).where(F.col("title") == title)
            for (name,) in changed.select("partition").distinct().collect():
                rows = collection_rows(changed.where(F.col("partition") == name)).drop(RANGE)
                rows.coalesce(1).write.parquet(str(folder / routes.partition(name)))
            taken: dict[str, float] = {"rows": changed.count()}
            for way in ("lakevec", "upsert")[:: 1 if number % 2 else -1]:
                if way == "lakevec":
                    done = load(lake, settings, address, Progress(terminal=False), staging)
                    assert (done.loaded, done.built) == (taken["rows"], [])
                    taken[way] = done.seconds
                else:
                    answer = timed([python, program, address.uri, routes.collection, folder]).answer
                    assert answer["rows"] == taken["rows"]
                    taken[way] = answer["seconds"]
            rounds.append(taken)
        figures[f"{size} rows"] = {
            "rows": spread(each["rows"] for each in rounds),
            "seconds": {way: spread(each[way] for each in rounds) for way in ("lakevec", "upsert")},
            "rows_per_second": {
                way: spread(each["rows"] / each[way] for each in rounds) for way in ("lakevec", "upsert")
            },
            "times_upsert": spread(each["upsert"] / each["lakevec"] for each in rounds),
        }
    keep({"rows": ROWS, **figures})
