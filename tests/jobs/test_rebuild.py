import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pytest
from lakevec.jobs import carry_out
from lakevec.jobs.cli import app
from lakevec.jobs.lake.tables import EMBEDDINGS, PARTITIONS
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.rebuild import rebuild
from lakevec.jobs.vectors import partitions
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.partitions import Generation
from lakevec.jobs.vectors.routes import read_routes
from lakevec.jobs.vectors.search import search, through_routes
from lakevec.udfs.keys import digest
from pyspark.sql import functions as F
from typer.testing import CliRunner

YEARS = ("2020", "2021", "2022", "2023")
ROWS_A_YEAR = 50
# Room for two new generations beside the four that are live, so a rebuild takes two waves.
TWO_WAVES = {"max_partitions": 7}


@dataclass
class Reads:
    """What a client saw that read all the while. expected: the keys that it should."""

    expected: set[str]
    searches: int = 0
    counts: int = 0
    missing: int = 0
    doubled: int = 0
    errors: list[str] = field(default_factory=list)


@contextmanager
def reading(lakehouse):
    """A thread that searches for all passages, and counts them, through the routes."""
    name, address = lakehouse.settings.milvus.collection, MilvusAddress(lakehouse.settings.milvus.uri)
    reads = Reads({key for (key,) in lakehouse.rows(EMBEDDINGS, "chunk_id")})
    vector = np.full(lakehouse.lake().model.dimension, 0.05)
    stop = threading.Event()

    def read():
        client = connect(address)

        def count(routes):
            names = [generation.partition for generation in routes.live]
            fields = ["count(*)"]
            found = client.query(
                routes.collection, "", output_fields=fields, partition_names=names, consistency_level="Bounded"
            )
            return found[0]["count(*)"]

        while not stop.is_set():
            try:
                found = search(client, name, vector, 4 * ROWS_A_YEAR, consistency="Bounded")
                keys = [hit.chunk_id for hit in found.hits]
                reads.searches += 1
                reads.missing += not reads.expected <= set(keys)
                reads.doubled += len(keys) != len(set(keys))
                rows = through_routes(client, name, count)
                reads.counts += 1
                reads.missing += rows < len(reads.expected)
                reads.doubled += rows > len(reads.expected)
            except Exception as error:
                reads.errors.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield reads
    finally:
        stop.set()
        reader.join()


def with_milvus(lakehouse, **values):
    milvus = lakehouse.settings.milvus.model_copy(update=values)
    return lakehouse.settings.model_copy(update={"milvus": milvus})


def generations(lakehouse):
    """Those that are live, and those that are there."""
    client = connect(MilvusAddress(lakehouse.settings.milvus.uri))
    routes = read_routes(client, lakehouse.settings.milvus.collection)
    return routes.generations, partitions.present_generations(client, routes.collection)


def passage(number: int, year: str, dimension: int) -> tuple:
    """A row of EMBEDDINGS."""
    vector = np.random.default_rng(number).normal(size=dimension)
    row = {
        "chunk_id": digest(str(number)),
        "model_id": "m",
        "doc_id": "d",
        "partition": year,
        "doc_timestamp": datetime(int(year), 3, 1, tzinfo=UTC),
        "uri": f"{number}.md",
        "title": f"Letter {number}",
        "heading_path": "",
        "start": 0,
        "end": 40,
        "text": f"The shipment with number {number} has left.",
        "content_hash": digest(str(number)),
        "vector": [float(value) for value in vector / np.linalg.norm(vector)],
    }
    return tuple(row.get(name) for name in EMBEDDINGS.schema.names)


def load_now(lakehouse):
    address = MilvusAddress(lakehouse.settings.milvus.uri)
    return load(lakehouse.lake(), lakehouse.settings, address, Progress(False))


@pytest.fixture
def indexed(lakehouse, tmp_path):
    """A lake of four years, indexed; what is built from now on is staged."""
    lake = lakehouse.lake()
    rows = [passage(number, YEARS[number % 4], lake.model.dimension) for number in range(ROWS_A_YEAR * len(YEARS))]
    lake.tables.append(EMBEDDINGS, lakehouse.spark.createDataFrame(rows, EMBEDDINGS.schema))
    load_now(lakehouse)
    settings = lakehouse.settings.load.model_copy(update={"staging": str(tmp_path / "staging")})
    lakehouse.settings = lakehouse.settings.model_copy(update={"load": settings})
    return lakehouse


@pytest.mark.slow
def test_readers_miss_nothing_while_all_ranges_are_made_anew_in_waves_and_after_a_crash(indexed, monkeypatch, capsys):
    rows = indexed.assert_mirrored()
    settings = with_milvus(indexed, **TWO_WAVES)

    with reading(indexed) as reads:
        report = rebuild(settings, progress=Progress(False))

    with capsys.disabled():
        print(f"\n{reads.searches} searches, {reads.counts} counts in {report.seconds} s")
    assert (reads.errors, reads.missing, reads.doubled) == ([], 0, 0)
    assert min(reads.searches, reads.counts) > 10
    assert (report.rows, report.built, report.patched) == (rows, list(YEARS), [])
    assert report.generations == dict.fromkeys(YEARS, 2)
    assert generations(indexed) == (report.generations, [Generation(year, 2) for year in YEARS])
    assert {row[2] for row in indexed.rows(PARTITIONS, "range", "generation", "way") if row[1] == 2} == {"build"}
    assert indexed.assert_mirrored() == rows

    # A passage moves from the first wave to the second, and the process dies between the two.
    moved = {"partition": F.lit("2023"), "doc_timestamp": F.lit(datetime(2023, 5, 1, tzinfo=UTC))}
    indexed.lake().tables.delta(EMBEDDINGS).update(F.col("chunk_id") == digest("0"), moved)
    publish, published = carry_out.publish, []

    def die_at_the_second(*arguments):
        if published:
            raise KeyboardInterrupt
        published.append(publish(*arguments))

    with reading(indexed) as reads:
        monkeypatch.setattr("lakevec.jobs.carry_out.publish", die_at_the_second)
        monkeypatch.setattr("lakevec.jobs.load.publish", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            rebuild(settings, progress=Progress(False))
        monkeypatch.undo()
        assert generations(indexed)[0] == {"2020": 3, "2021": 3, "2022": 2, "2023": 2}
        assert len(generations(indexed)[1]) == 6
        load_now(indexed)

    # It is in both for a while: a search tells it once.
    assert (reads.errors, reads.missing) == ([], 0)
    assert indexed.assert_mirrored() == rows
    live, there = generations(indexed)
    assert {each.range: each.generation for each in there} == live


@pytest.mark.slow
def test_one_range_alone_in_place_and_after_the_collection_was_dropped(indexed, monkeypatch):
    rows = indexed.assert_mirrored()
    client, name = connect(MilvusAddress(indexed.settings.milvus.uri)), indexed.settings.milvus.collection
    collection = read_routes(client, name).collection

    def lakevec(*arguments, overrides=()):
        settings = indexed.settings
        given = (
            f"lake.path={settings.lake.path}",
            f"milvus.uri={settings.milvus.uri}",
            f"milvus.collection={name}",
            *overrides,
        )
        options = [word for override in given for word in ("--set", override)]
        return CliRunner().invoke(app, [*options, "--json", "rebuild", *arguments])

    refused = lakevec("--partition", "1999")
    assert refused.exit_code == 2
    assert "no time range 1999. It has 2020, 2021, 2022, 2023." in json.loads(refused.stdout)["message"]

    # Without staging nothing is built; a row that the lake does not have goes, whatever slice its key lies in.
    monkeypatch.setattr("lakevec.jobs.leaving.KEYS_AT_A_TIME", 4)
    partition = Generation("2021", 1).partition
    [row] = client.query(collection, "", limit=1, output_fields=["*"], partition_names=[partition])
    for key in ("00stray", "7fstray", "stray"):
        client.upsert(collection, [{**row, "chunk_id": key}], partition_name=partition)
    report = json.loads(lakevec("--partition", "2021").stdout)
    assert (report["built"], report["patched"], report["generations"]) == ([], ["2021"], {"2021": 1})
    assert indexed.assert_mirrored() == rows

    staged = [f"load.staging={indexed.settings.load.staging}"]
    report = json.loads(lakevec("--partition", "2021", overrides=staged).stdout)
    assert (report["rows"], report["built"], report["patched"]) == (ROWS_A_YEAR, ["2021"], [])
    assert generations(indexed)[0] == {"2020": 1, "2021": 2, "2022": 1, "2023": 1}
    assert indexed.assert_mirrored() == rows

    client.drop_collection(collection)
    report = rebuild(indexed.settings, progress=Progress(False))
    assert report.generations == {"2020": 2, "2021": 3, "2022": 2, "2023": 2}
    assert indexed.assert_mirrored() == rows
