"""A first load of LAKEVEC_BENCH_LOADS synthetic rows, such as "10000 100000", against pymilvus's own two ways: inserts
of 1,000 rows, and its LocalBulkWriter with an import.

All three end with the same rows in the same partitions, indexed alike and loaded. lakevec reads Delta, checks every row
and publishes; its peers read Parquet files with the collection's columns, which nobody counts the making of. Theirs is
the time after their Python started. The memory of the driver is that of its two processes: how far they grew, at most.
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from lakevec.jobs.lake.tables import EMBEDDINGS
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.transfer import collection_rows
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.index import METRIC, VectorIndex
from lakevec.jobs.vectors.patch import RANGE
from lakevec.jobs.vectors.routes import read_routes
from pyspark.sql import SparkSession

from .passages import spread
from .peer import PEERS, environment, timed
from .test_load import synthetic_embeddings

SIZES = [int(number) for number in os.environ.get("LAKEVEC_BENCH_LOADS", "10000 100000").split()]
ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "3"))
INDEX = os.environ.get("LAKEVEC_BENCH_INDEX", "HNSW")
WAYS = ("lakevec", "insert", "bulk")

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3 * 3600)]


class Growth:
    """How far processes grow above what they had at the beginning. Linux alone."""

    def __init__(self, processes: Mapping[str, int]):
        self.processes = processes
        for pid in processes.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.before = self.megabytes("VmRSS")

    def megabytes(self, line: str) -> dict[str, float]:
        found = {}
        for name, pid in self.processes.items():
            (told,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith(line)]
            found[name] = int(told.split()[1]) / 1000
        return found

    def most(self) -> dict[str, float]:
        return {name: most - self.before[name] for name, most in self.megabytes("VmHWM").items()}


def driver(spark: SparkSession) -> dict[str, int]:
    jvm = spark._jvm.java.lang.ProcessHandle.current().pid()  # pyright: ignore[reportOptionalMemberAccess, reportOptionalCall]
    return {"python": os.getpid(), "jvm": jvm}  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("rows", SIZES)
def test_a_first_load(new_lakehouse, tmp_path, rows, keep):
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    memory: dict[str, list[float]] = {"python": [], "jvm": []}
    exported = tmp_path / "rows"
    index: VectorIndex | None = None
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        lakehouse = new_lakehouse(folder, f"index.type={INDEX}", "mlflow.experiment=")
        tables, model = lakehouse.lake().tables, lakehouse.lake().model
        tables.append(EMBEDDINGS, synthetic_embeddings(lakehouse.spark, rows, model.dimension, model.id))
        if not exported.exists():
            export(tables.read(EMBEDDINGS), exported)
        # In turns; what index lakevec chose, its peers are told, so that it is the first at first.
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            if way == "lakevec":
                growth = Growth(driver(lakehouse.spark))
                index, seconds = by_lakevec(lakehouse, rows, folder / "staging")
                for name, megabytes in growth.most().items():
                    memory[name].append(megabytes)
            else:
                assert index
                told = {"type": index.type, "build": dict(index.build), "metric": METRIC, "dimension": model.dimension}
                where = lakehouse.settings.milvus.uri, f"peer_{uuid.uuid4().hex[:8]}", exported, folder / way
                ran = timed([environment("pymilvus"), PEERS / "load_with_pymilvus.py", way, *where, json.dumps(told)])
                assert ran.answer["rows"] == rows
                seconds = ran.answer["seconds"]
            found[way].append(seconds)
    assert index
    figures: dict = {
        name: {"seconds": spread(seconds), "rows_per_second": spread(rows / each for each in seconds)}
        for name, seconds in found.items()
    }
    for way in WAYS[1:]:
        figures[f"times_{way}"] = spread(their / our for their, our in zip(found[way], found["lakevec"], strict=True))
    grown = {f"{name}_grew_by_megabytes": spread(values) for name, values in memory.items()}
    keep({"rows": rows, "index": f"{index.type} {dict(index.build)}", **figures, **grown})


def by_lakevec(lakehouse, rows: int, staging: Path) -> tuple[VectorIndex, float]:
    """Loads, and leaves the server to the next. Gives the index that was chosen, and seconds."""
    settings = lakehouse.settings
    address = MilvusAddress(settings.milvus.uri)
    loaded = load(lakehouse.lake(), settings, address, Progress(terminal=False), str(staging))
    assert loaded.loaded == rows
    routes = read_routes(connect(address), settings.milvus.collection)
    assert routes
    # None is slowed by another's rows.
    lakehouse.empty_milvus()
    return routes.index, loaded.seconds


def export(embeddings, folder: Path) -> None:
    """The collection's rows as Parquet, a sub-folder for each time range, named as a partition may be."""
    for (name,) in embeddings.select("partition").distinct().collect():
        rows = collection_rows(embeddings.where(embeddings["partition"] == name)).drop(RANGE)
        rows.write.parquet(str(folder / f"p{name}"))
