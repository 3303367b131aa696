import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.settings import Index
from lakevec.jobs.vectors import partitions
from lakevec.jobs.vectors.build import ImportFile, Staging, import_files, staging_for, write_files_in_task
from lakevec.jobs.vectors.collection import Owner, open_collection
from lakevec.jobs.vectors.connection import connect
from lakevec.jobs.vectors.partitions import Generation
from lakevec.jobs.vectors.rows import SCHEMA

DIMENSION = 8


def batch(*rows):
    """Rows of (key, range, file); the vector of each is its own."""
    columns = [
        {
            "chunk_id": key,
            "doc_id": "d",
            "doc_timestamp": 0,
            "uri": "a.md",
            "title": "",
            "heading_path": "",
            "text": "text",
            "page": 0,
            "start": 0,
            "end": 4,
            "vector": np.random.default_rng(number).normal(size=DIMENSION).astype("float32"),
        }
        for number, (key, _, _) in enumerate(rows)
    ]
    made = pa.RecordBatch.from_pylist(columns, SCHEMA)
    made = made.append_column("partition", pa.array([name for _, name, _ in rows]))
    return made.append_column("file", pa.array([file for _, _, file in rows], pa.int32()))


def written(staging, *batches):
    return [row for outcome in write_files_in_task(staging, DIMENSION, batches) for row in outcome.to_pylist()]


@pytest.fixture
def staging(tmp_path):
    return Staging(str(tmp_path / "staging"))


def test_each_range_and_file_number_becomes_one_file_over_all_batches(staging):
    rows = written(
        staging,
        batch(("k1", "2023", 0), ("k2", "2024", 0)),
        batch(("k3", "2024", 0), ("k4", "2024", 1)),
    )
    assert [(row["range"], row["rows"], row["problem"]) for row in rows] == [
        ("2023", 1, None),
        ("2024", 2, None),
        ("2024", 1, None),
    ]
    assert [pq.read_table(row["path"], columns=["chunk_id"])["chunk_id"].to_pylist() for row in rows] == [
        ["k1"],
        ["k2", "k3"],
        ["k4"],
    ]
    assert pq.read_schema(rows[0]["path"]).types == SCHEMA.types
    staging.clear()
    assert written(staging) == []


def test_rows_that_may_not_be_written_are_reported(staging):
    [row] = written(staging, batch(("k1", "2023", 0), ("k1", "2023", 0)))
    assert row["rows"] == 0
    assert "the key comes more than once (chunk_id k1" in row["problem"]


@pytest.mark.parametrize(
    ("root", "path", "for_server"),
    [
        ("/data/staging", "/data/staging/lakevec_1/a.parquet", "/data/staging/lakevec_1/a.parquet"),
        ("s3://bucket/staging/", "bucket/staging/lakevec_1/a.parquet", "staging/lakevec_1/a.parquet"),
        ("file:///data", "/data/lakevec_1/a.parquet", "/data/lakevec_1/a.parquet"),
    ],
)
def test_the_server_finds_a_file_in_its_folder_or_its_bucket(root, path, for_server):
    assert staging_for(root, "lakevec_1").for_server(path) == for_server


@pytest.fixture
def client(milvus):
    return connect(milvus)


@pytest.fixture
def collection(client):
    owner = Owner("lake0001", "tiny@1", "heading-256-32", DIMENSION)
    return open_collection(client, f"build_{uuid.uuid4().hex[:8]}", owner, Index(type="FLAT"), {"index.type"}, 10)[0]


def test_many_ranges_are_imported_at_once_and_seen_whole(client, milvus, collection, staging):
    keys = [(f"k{n}", str(2000 + n // 10), n // 5) for n in range(30)]
    rows = written(staging, batch(*keys))
    generations = {name: Generation(name, 1) for name in ("2000", "2001", "2002")}
    files = [ImportFile(row["range"], row["path"], row["rows"]) for row in rows]

    tasks = import_files(client, milvus, collection, generations, files, staging)

    assert {generation: len(numbers) for generation, numbers in tasks.items()} == dict.fromkeys(generations.values(), 2)
    assert partitions.wait_for_rows(client, collection, dict.fromkeys(generations.values(), 10), 60) == {}
    assert sorted(partitions.keys(client, collection, generations["2001"])) == [f"k{n}" for n in range(10, 20)]


def test_an_import_that_fails_says_why_and_of_what(client, milvus, collection, staging):
    cut_off = Path(staging.root) / "cut.parquet"
    cut_off.parent.mkdir()
    cut_off.write_bytes(b"PAR1")
    with pytest.raises(MilvusError, match=r"could not import 7 rows of 2024 \(task \d+\): .+ Nothing that is live"):
        import_files(
            client, milvus, collection, {"2024": Generation("2024", 1)}, [ImportFile("2024", str(cut_off), 7)], staging
        )
