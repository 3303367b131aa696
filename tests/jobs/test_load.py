import os
import shutil
import threading
import time
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.lake import tables as lake_tables
from lakevec.jobs.lake.changes import apply
from lakevec.jobs.lake.lake import Lake
from lakevec.jobs.lake.lock import TUNE, locked
from lakevec.jobs.lake.tables import EMBEDDINGS, PARTITIONS, LakeTables
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.settings import load_settings
from lakevec.jobs.vectors import partitions
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.partitions import Generation
from lakevec.jobs.vectors.routes import read_routes
from lakevec.jobs.vectors.search import partition_counts, search
from lakevec.udfs.chunk import Chunking
from lakevec.udfs.model import Model
from mlflow.tracking import MlflowClient
from pyspark.sql import functions as F

DIMENSION = 8
BUILD_ALWAYS = ("load.build_rows=0", "load.build_share=0")


class Bench:
    """One lake with `embeddings` written by hand, and the collection that mirrors it."""

    def __init__(self, spark, address, folder):
        self.address = address
        self.folder = folder
        self.name = f"load_{uuid.uuid4().hex[:8]}"
        tables = LakeTables(spark, str(folder / "lake"))
        tables.create(EMBEDDINGS, {})
        tables.create(PARTITIONS, {})
        model = Model("tiny", "tiny@1", "", 256, DIMENSION)
        self.lake = Lake(tables, uuid.uuid4().hex[:16], model, Chunking("heading", 256, 32), "year")

    @property
    def client(self):
        return connect(self.address)

    def settings(self, *overrides):
        ours = f"milvus.collection={self.name}", f"lake.path={self.folder / 'lake'}", "mlflow.experiment="
        return load_settings("local", [*ours, *overrides], environment={})

    def load(self, *overrides):
        """(loaded, removed, built, patched); nothing is logged to MLflow unless overrides say so."""
        settings = self.settings(*overrides)
        done = load(self.lake, settings, self.address, Progress(False), self.folder / "staging")
        # What the next load goes by without counting the table.
        counted = self.lake.tables.read(EMBEDDINGS).groupBy("partition").count().collect()
        assert read_routes(self.client, self.name).rows == {row["partition"]: row["count"] for row in counted}
        return done.loaded, done.removed, done.built, done.patched

    def fill(self, *passages):
        """Append passages to a lake that does not have them; quicker than `write`."""
        self.lake.tables.append(EMBEDDINGS, self.lake.tables.spark.createDataFrame(passages, EMBEDDINGS.schema))

    def write(self, *passages):
        """Insert or update passages, one Delta version."""
        rows = self.lake.tables.spark.createDataFrame(list(passages), EMBEDDINGS.schema)
        apply(self.lake.tables, EMBEDDINGS, rows.withColumn("action", F.lit("update")))

    def delete(self, *keys):
        self.lake.tables.delta(EMBEDDINGS).delete(F.col("chunk_id").isin(*keys))

    def in_lake(self):
        rows = self.lake.tables.read(EMBEDDINGS).select("partition", "chunk_id", "text").collect()
        return sorted(tuple(row) for row in rows)

    def in_milvus(self):
        """(range, chunk_id, text) of every row that readers can reach, counted doubly if it is there doubly."""
        routes = read_routes(self.client, self.name)
        return sorted(
            (generation.range, row["chunk_id"], row["text"])
            for generation in routes.live
            for row in self.client.query(
                routes.collection,
                "",
                limit=1000,
                output_fields=["chunk_id", "text"],
                partition_names=[generation.partition],
                consistency_level="Strong",
            )
        )

    def history(self):
        """(range, generation, way, state, rows) of `partitions`."""
        rows = self.lake.tables.read(PARTITIONS).select("range", "generation", "way", "state", "rows").collect()
        return sorted(tuple(row) for row in rows)


def passage(key, year, text="text", vector=None, **others):
    """A row of EMBEDDINGS."""
    numbers = np.random.default_rng(int(key[1:])).normal(size=DIMENSION)
    row = {
        "chunk_id": key,
        "model_id": "tiny@1",
        "doc_id": "d",
        "partition": str(year),
        "doc_timestamp": datetime(year, 6, 1, tzinfo=UTC),
        "uri": "a.md",
        "title": "Title",
        "heading_path": "",
        "page": None,
        "start": 0,
        "end": 4,
        "text": text,
        "content_hash": key,
        "vector": [float(n) for n in (numbers / np.linalg.norm(numbers) if vector is None else vector)],
        **others,
    }
    return tuple(row.get(name) for name in EMBEDDINGS.schema.names)


@pytest.fixture
def bench(spark, milvus, tmp_path):
    return Bench(spark, milvus, tmp_path)


@pytest.fixture
def lite_bench(spark, tmp_path):
    return Bench(spark, MilvusAddress(str(tmp_path / "lite.db")), tmp_path)


def test_milvus_holds_what_embeddings_holds_and_a_second_load_does_nothing(bench):
    bench.fill(passage("k1", 1965), passage("k2", 2023), passage("k3", 2024))

    assert bench.load() == (3, 0, [], ["1965", "2023", "2024"])
    assert bench.in_milvus() == bench.in_lake()
    routes = read_routes(bench.client, bench.name)
    assert bench.load() == (0, 0, [], [])
    assert read_routes(bench.client, bench.name) == routes


def test_changed_moved_and_deleted_passages_leave_nothing_behind(bench):
    bench.fill(passage("k1", 2023), passage("k2", 2023), passage("k3", 2024), passage("k4", 2022))
    bench.load()
    bench.write(passage("k1", 2023, text="changed"))
    bench.write(passage("k2", 2025), passage("k5", 2024))
    bench.write(passage("k2", 2021))
    bench.delete("k4", "k5")

    assert bench.load() == (2, 1, [], ["2021", "2023", "2024"])
    assert bench.in_milvus() == [("2021", "k2", "text"), ("2023", "k1", "changed"), ("2024", "k3", "text")]
    assert bench.load() == (0, 0, [], [])


def test_lite_is_kept_equal_by_patches(lite_bench):
    lite_bench.fill(passage("k1", 1965), passage("k2", 2023), passage("k3", 2024))
    assert lite_bench.load(*BUILD_ALWAYS) == (3, 0, [], ["1965", "2023", "2024"])
    lite_bench.write(passage("k2", 2024, text="moved"))
    lite_bench.delete("k1")

    assert lite_bench.load() == (1, 1, [], ["2024"])
    assert lite_bench.in_milvus() == [("2024", "k2", "moved"), ("2024", "k3", "text")]
    found = search(lite_bench.client, lite_bench.name, [1.0] * DIMENSION, 10, since=datetime(2024, 6, 1, tzinfo=UTC))
    assert ({hit.chunk_id for hit in found.hits}, found.partitions_searched) == ({"k2", "k3"}, ["2024"])
    assert partition_counts(lite_bench.client, lite_bench.name) == {"2024": 2}
    assert lite_bench.load() == (0, 0, [], [])


def test_a_vector_with_nan_is_stopped_before_it_is_written(bench):
    bench.fill(passage("k1", 2024), passage("k2", 2024, vector=[float("nan")] * DIMENSION))

    with pytest.raises(MilvusError, match=r"NaN.*k2"):
        bench.load()


def test_a_range_of_which_much_changed_is_built_anew_while_readers_see_all_of_it(bench):
    keys = [f"k{n}" for n in range(40)]
    bench.fill(*[passage(key, 2024) for key in keys], passage("k99", 2023))
    assert bench.load(*BUILD_ALWAYS) == (41, 0, ["2023", "2024"], [])
    assert bench.in_milvus() == bench.in_lake()
    bench.write(*[passage(key, 2024, text="new") for key in keys])

    experiment = f"mlflow.experiment={bench.name}"
    seen, stop = [], threading.Event()

    def read():
        client = connect(bench.address)
        while not stop.is_set():
            hits = search(client, bench.name, [1.0] * DIMENSION, 100, consistency="Bounded").hits
            seen.append((len(hits), len({hit.chunk_id for hit in hits}), len({hit.text for hit in hits})))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        loaded = bench.load(*BUILD_ALWAYS, experiment)
    finally:
        stop.set()
        reader.join()

    assert loaded == (40, 0, ["2024"], [])
    # k99's text is "text" as ever; the others' is all old, and then all new.
    assert set(seen) == {(41, 41, 1), (41, 41, 2)}
    assert bench.in_milvus() == bench.in_lake()
    assert bench.history() == [
        ("2023", 1, "build", "live", 1),
        ("2024", 1, "build", "retired", 40),
        ("2024", 2, "build", "live", 40),
    ]
    assert not list((bench.folder / "staging").iterdir())
    [run] = build_runs(bench)
    assert run.data.params["quantised"] == "no"
    assert (run.data.params["range"], run.data.params["generation"], run.data.metrics["rows"]) == ("2024", "2", 40)


def build_runs(bench):
    client = MlflowClient(f"sqlite:///{bench.lake.tables.path}-mlflow.db")
    return client.search_runs([client.get_experiment_by_name(bench.name).experiment_id])


@pytest.mark.slow
def test_an_import_that_was_cut_off_is_abandoned_and_never_repeated_into_its_partition(bench):
    bench.fill(passage("k1", 2024))
    bench.load()
    collection = read_routes(bench.client, bench.name).collection
    left = [Generation("2024", 2), Generation("2025", 1)]
    partitions.create(bench.client, collection, left)
    partitions.load(bench.client, collection, left)
    bench.write(passage("k1", 2024, text="new"), passage("k2", 2025))

    assert bench.load(*BUILD_ALWAYS) == (2, 0, ["2024", "2025"], [])
    assert partitions.present_generations(bench.client, collection) == [Generation("2024", 3), Generation("2025", 2)]
    assert bench.in_milvus() == bench.in_lake()


@pytest.mark.slow
def test_a_load_that_died_before_its_routes_were_published_is_made_good_by_the_next(bench, monkeypatch):
    bench.fill(passage("k1", 2023), passage("k2", 2023), passage("k3", 2024))
    bench.load()
    bench.write(passage("k1", 2024), passage("k4", 2025))
    bench.delete("k3")

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lakevec.jobs.carry_out.publish", die)
        with pytest.raises(KeyboardInterrupt):
            bench.load()
    bench.delete("k4")

    bench.load()
    assert bench.in_milvus() == bench.in_lake() == [("2023", "k2", "text"), ("2024", "k1", "text")]
    assert bench.load() == (0, 0, [], [])


@pytest.mark.slow
def test_whatever_milvus_lost_is_filled_again(bench):
    bench.fill(passage("k1", 2023), passage("k2", 2024), passage("k3", 2024))
    bench.load()
    routes = read_routes(bench.client, bench.name)

    bench.client.delete(routes.collection, ids=["k2"], partition_name=routes.partition("2024"))
    partitions.wait_for_rows(bench.client, routes.collection, {Generation("2024", 1): 1}, 30)
    assert bench.load() == (2, 0, [], ["2024"])
    assert bench.in_milvus() == bench.in_lake()

    partitions.retire(bench.client, routes.collection, [Generation("2023", 1)])
    assert bench.load() == (1, 0, [], ["2023"])
    assert bench.in_milvus() == bench.in_lake()

    bench.client.drop_collection(routes.collection)
    assert bench.load() == (3, 0, [], ["2023", "2024"])
    assert bench.in_milvus() == bench.in_lake()


@pytest.mark.parametrize("lost", ["files", "log", "age"])
def test_a_change_feed_that_is_lost_leaves_nothing_behind(bench, cut_log, lost):
    bench.fill(passage("k1", 2023), passage("k2", 2023), passage("k3", 2024))
    bench.load()
    bench.write(passage("k1", 2024, text="moved"))
    tables = bench.lake.tables
    if lost == "files":
        shutil.rmtree(f"{tables.path}/embeddings/_change_data")
    elif lost == "age":
        tables.set_property(EMBEDDINGS, "delta.deletedFileRetentionDuration", "interval 0 hours")
    else:
        # As one that grew long is cut: behind the change, and before what came after it.
        bench.write(passage("k2", 2023, text="later"))
        cut_log(tables, EMBEDDINGS)

    assert bench.load() == (3, 1, [], ["2023", "2024"])
    assert bench.in_milvus() == bench.in_lake()


@pytest.mark.slow
def test_the_log_is_cut_by_the_load_that_has_read_it_and_by_nobody_else(bench, monkeypatch):
    monkeypatch.setattr(lake_tables, "COMMITS_APART", 1)
    monkeypatch.setattr(lake_tables, "MOST_COMMITS", 4)
    monkeypatch.setattr(lake_tables, "KEPT_COMMITS", 2)
    tables, log = bench.lake.tables, bench.folder / "lake" / "embeddings" / "_delta_log"
    tables.set_property(EMBEDDINGS, "delta.checkpointInterval", "1")
    bench.fill(passage("k1", 2023), passage("k2", 2024))
    bench.load()
    for number in range(4):
        bench.write(passage("k1", 2023, text=f"text {number}"))
    commits = sorted(int(file.stem) for file in log.glob("*.json"))
    assert commits[0] == 0
    # A version a minute, up to now.
    for version in commits:
        at = time.time() - 60 * (commits[-1] - version)
        os.utime(log / f"{version:020}.json", (at, at))

    read = tables.version(EMBEDDINGS)
    # A sweep reads on at the version that it began with.
    with locked(bench.settings(), "tune", [TUNE]):
        assert bench.load() == (1, 0, [], ["2023"])
    assert sorted(int(file.stem) for file in log.glob("*.json")) == commits
    assert bench.load() == (0, 0, [], [])

    left = sorted(int(file.stem) for file in log.glob("*.json"))
    assert 0 < left[0] <= read - 2
    assert left[-1] == commits[-1]
    bench.write(passage("k2", 2024, text="later"))
    assert bench.load() == (1, 0, [], ["2024"])
    assert bench.in_milvus() == bench.in_lake()


def test_a_lake_that_was_restored_from_a_backup_is_not_taken_for_the_one_that_milvus_followed(bench):
    lake = bench.lake.tables
    bench.fill(passage("k1", 2023), passage("k2", 2023))
    shutil.copytree(lake.path, bench.folder / "backup")
    bench.write(passage("k1", 2023, text="lost"))
    bench.load()
    followed = read_routes(bench.client, bench.name).version

    shutil.rmtree(lake.path)
    shutil.copytree(bench.folder / "backup", lake.path)
    # As in a process of its own.
    lake.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    bench.write(passage("k2", 2023, text="new"))
    assert lake.version(EMBEDDINGS) == followed

    assert bench.load() == (2, 0, [], ["2023"])
    assert bench.in_milvus() == bench.in_lake() == [("2023", "k1", "text"), ("2023", "k2", "new")]
    assert bench.load() == (0, 0, [], [])
