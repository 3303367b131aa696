import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.lake.changes import apply
from lakevec.jobs.lake.lake import Lake
from lakevec.jobs.lake.tables import EMBEDDINGS, PARTITIONS, LakeTables
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.settings import load_settings
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.routes import read_routes
from lakevec.udfs.chunk import Chunking
from lakevec.udfs.model import Model
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

    def load(self, *overrides):
        settings = load_settings(
            "local", [f"milvus.collection={self.name}", 'mlflow.experiment=""', *overrides], environment={}
        )
        done = load(self.lake, settings, self.address, Progress(False), self.folder / "staging")
        return done.loaded, done.removed, done.built, done.patched

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
    bench.write(passage("k1", 1965), passage("k2", 2023), passage("k3", 2024))

    assert bench.load() == (3, 0, [], ["1965", "2023", "2024"])
    assert bench.in_milvus() == bench.in_lake()
    routes = read_routes(bench.client, bench.name)
    assert bench.load() == (0, 0, [], [])
    assert read_routes(bench.client, bench.name) == routes


def test_changed_moved_and_deleted_passages_leave_nothing_behind(bench):
    bench.write(passage("k1", 2023), passage("k2", 2023), passage("k3", 2024), passage("k4", 2022))
    bench.load()
    bench.write(passage("k1", 2023, text="changed"))
    bench.write(passage("k2", 2025), passage("k5", 2024))
    bench.write(passage("k2", 2021))
    bench.delete("k4", "k5")

    assert bench.load() == (2, 1, [], ["2021", "2023", "2024"])
    assert bench.in_milvus() == [("2021", "k2", "text"), ("2023", "k1", "changed"), ("2024", "k3", "text")]
    assert bench.load() == (0, 0, [], [])


def test_lite_is_kept_equal_by_patches(lite_bench):
    lite_bench.write(passage("k1", 1965), passage("k2", 2023), passage("k3", 2024))
    assert lite_bench.load(*BUILD_ALWAYS) == (3, 0, [], ["1965", "2023", "2024"])
    lite_bench.write(passage("k2", 2024, text="moved"))
    lite_bench.delete("k1")

    assert lite_bench.load() == (1, 1, [], ["2024"])
    assert lite_bench.in_milvus() == [("2024", "k2", "moved"), ("2024", "k3", "text")]
    assert lite_bench.load() == (0, 0, [], [])


def test_a_vector_with_nan_is_stopped_before_it_is_written(bench):
    bench.write(passage("k1", 2024), passage("k2", 2024, vector=[float("nan")] * DIMENSION))

    with pytest.raises(MilvusError, match="NaN.*k2"):
        bench.load()
