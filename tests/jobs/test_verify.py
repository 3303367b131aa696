import json

import pytest
from lakevec.jobs import comparison
from lakevec.jobs import verify as verify_job
from lakevec.jobs.cli import app
from lakevec.jobs.lake.faults import FAULTS
from lakevec.jobs.lake.tables import CHUNKS, DOCUMENTS, EMBEDDINGS, FILES, VECTORS
from lakevec.jobs.progress import Progress
from lakevec.jobs.rebuild import rebuild
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.rows import COLUMNS
from lakevec.jobs.verify import verify
from pyspark.sql import functions as F
from typer.testing import CliRunner

RETENTION = "delta.deletedFileRetentionDuration"
KINDS = ("missing", "extra", "doubled", "different")


def sections(year: int, number: int = 6) -> str:
    parts = [f"## Section {n}\n\nWhat was said about subject {n} in the year {year}.\n" for n in range(number)]
    return f"---\ndate: {year}-03-01\n---\n\n# Report {year}\n\n" + "\n".join(parts)


class Promise:
    """A lake whose index is whole, and ways to break it by hand."""

    def __init__(self, lakehouse):
        self.lakehouse = lakehouse
        for year in (2021, 2022, 2023):
            lakehouse.write(f"{year}.md", sections(year), modified=1_700_000_000)
        lakehouse.run()
        self.tables = lakehouse.lake().tables
        self.client = connect(MilvusAddress(lakehouse.settings.milvus.uri))
        self.name = lakehouse.settings.milvus.collection

    def keys(self, year: int) -> list[str]:
        rows = self.tables.read(EMBEDDINGS).where(F.col("partition") == str(year)).select("chunk_id").collect()
        return sorted(key for (key,) in rows)

    def row(self, key: str, **changes) -> dict:
        fields = [*COLUMNS, "vector"]
        (row,) = self.client.query(self.name, f'chunk_id == "{key}"', output_fields=fields, consistency_level="Strong")
        return {name: row[name] for name in fields} | changes

    def insert(self, year: int | None, *rows: dict) -> None:
        where = {"partition_name": f"p{year}_g1"} if year else {}
        self.client.insert(self.name, list(rows), **where)

    def delete(self, year: int, key: str) -> None:
        self.client.delete(self.name, ids=[key], partition_name=f"p{year}_g1")

    def change(self, table, key: str, **values) -> None:
        self.tables.delta(table).update(F.col(table.key[0]) == key, values)

    def append_copy(self, table, key: str, **values) -> None:
        row = self.tables.read(table).where(F.col(table.key[0]) == key).limit(1)
        self.tables.append(table, row.withColumns(values).localCheckpoint())

    def command(self, *arguments: str) -> tuple[int, dict]:
        """Exit status and JSON answer of `lakevec verify`."""
        result = CliRunner().invoke(app, [*self.lakehouse.options, "--json", "verify", *arguments])
        assert result.stdout, result.output
        return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def promise(lakehouse):
    return Promise(lakehouse)


def faults_in(report: dict) -> dict:
    return {name: number for name, number in report["lake"].items() if number}


def test_every_fault_in_milvus_is_told_by_its_number_and_mended(promise):
    status, clean = promise.command()
    rows = len(promise.lakehouse.rows(EMBEDDINGS, "chunk_id"))
    assert (status, clean["ok"], clean["sampled"], clean["behind"]) == (0, True, rows, {})
    assert set(clean["lake"]) == set(FAULTS)
    assert not any(clean["lake"].values())
    assert not any(clean[kind] for kind in KINDS)
    assert {name: part["milvus_rows"] for name, part in clean["partitions"].items()} == {
        str(year): len(promise.keys(year)) for year in (2021, 2022, 2023)
    }

    of_2021, of_2022, of_2023 = (promise.keys(year) for year in (2021, 2022, 2023))
    foreign = 'not "ours"'
    kept = {key: promise.row(key) for key in (*of_2021, *of_2022, *of_2023)}
    # Equal counts, other keys.
    promise.delete(2021, of_2021[0])
    promise.insert(2021, kept[of_2021[0]] | {"chunk_id": foreign})
    # A field and a vector.
    promise.client.upsert(promise.name, [kept[of_2021[1]] | {"title": "Another"}], partition_name="p2021_g1")
    swapped = [kept[of_2021[2]] | {"vector": kept[of_2021[3]]["vector"]}]
    promise.client.upsert(promise.name, swapped, partition_name="p2021_g1")
    # Three of one key, two of another; and one in two ranges.
    promise.insert(2022, kept[of_2022[0]], kept[of_2022[3]])
    promise.insert(2022, kept[of_2022[0]])
    promise.insert(2023, kept[of_2022[1]])
    # In the wrong range alone.
    promise.delete(2022, of_2022[2])
    promise.insert(2023, kept[of_2022[2]])
    promise.insert(None, kept[of_2023[0]] | {"chunk_id": "stray"})
    # In a partition that is none of ours.
    promise.client.create_partition(promise.name, "somebodys")
    promise.client.load_partitions(promise.name, ["somebodys"])
    promise.client.insert(promise.name, [kept[of_2023[0]]], partition_name="somebodys")

    status, wrong = promise.command()

    assert (status, wrong["ok"]) == (1, False)
    assert {name: [part[kind] for kind in KINDS] for name, part in wrong["partitions"].items()} == {
        "2021": [1, 1, 0, 2],
        "2022": [1, 0, 3, 0],
        "2023": [0, 1, 1, 0],
        "_default": [0, 1, 0, 0],
        "partition somebodys": [0, 0, 1, 0],
    }
    assert [wrong[kind] for kind in KINDS] == [2, 3, 5, 2]
    assert not faults_in(wrong)
    assert wrong["examples"] == {
        "missing": sorted([of_2021[0], of_2022[2]]),
        "extra": sorted([foreign, of_2022[2], "stray"]),
        "doubled": sorted([of_2022[0], of_2022[3], of_2022[1], of_2023[0]]),
        "different": sorted(of_2021[1:3]),
    }

    status, mended = promise.command("--repair")

    assert (status, mended["ok"], mended["partitions"]) == (0, True, clean["partitions"])
    assert mended["repaired"] == {"milvus_rows_deleted": 5, "milvus_rows_written": 8}
    assert {key: promise.row(key) for key in kept} == kept
    assert promise.lakehouse.assert_mirrored() == rows


@pytest.mark.slow
def test_whole_ranges_are_missed_and_made_again_and_no_sample_sees_no_other_field(promise):
    of_2021, of_2022, of_2023 = (promise.keys(year) for year in (2021, 2022, 2023))
    renamed = promise.row(of_2023[0], title="Another")
    promise.client.upsert(promise.name, [renamed], partition_name="p2023_g1")
    assert promise.command()[1]["different"] == 1
    unsampled = promise.command("--sample", "0")[1]
    assert [unsampled[name] for name in ("ok", "different", "sampled")] == [True, 0, 0]

    # One that readers cannot reach, one that is gone.
    promise.client.release_partitions(promise.name, ["p2021_g1"])
    promise.client.release_partitions(promise.name, ["p2022_g1"])
    promise.client.drop_partition(promise.name, "p2022_g1")
    promise.client.create_partition(promise.name, "p2021_g7")
    whole = verify(promise.lakehouse.settings)
    assert (whole.missing, whole.left_over) == (len(of_2021) + len(of_2022), ["p2021_g7"])
    whole = verify(promise.lakehouse.settings, repair=True)
    assert (whole.ok, whole.left_over) == (True, [])
    assert not promise.client.has_partition(promise.name, "p2021_g7")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_faults_inside_the_lake_are_told_from_what_waits_and_mended_without_embedding(promise):
    lakehouse, tables = promise.lakehouse, promise.tables
    lakehouse.write("2023.md", sections(2023, 7), modified=1_700_000_001)
    lakehouse.run(("ingest",))
    waiting = promise.command()
    assert (waiting[0], waiting[1]["ok"], waiting[1]["behind"]) == (0, True, {"chunk": 1})
    lakehouse.run(("chunk", "embed"))
    status, waiting = promise.command()
    assert (status, waiting["ok"], waiting["current"], waiting["behind"]) == (0, True, False, {"load": 1})
    # What no feed tells of is not taken on trust.
    tables.set_property(EMBEDDINGS, RETENTION, "interval 0 hours")
    status, untold = promise.command()
    assert (status, untold["ok"], untold["missing"], untold["behind"]) == (1, False, 1, {"load": 22})
    tables.set_property(EMBEDDINGS, RETENTION, "interval 1 week")
    lakehouse.run()

    of_2021, of_2022, of_2023 = (promise.keys(year) for year in (2021, 2022, 2023))
    documents = dict(lakehouse.rows(DOCUMENTS, "title", "doc_id"))
    promise.append_copy(DOCUMENTS, documents["Report 2021"], doc_id=F.lit("d0"), uri=F.lit("nowhere.md"))
    promise.change(CHUNKS, of_2021[0], text=F.lit("Something else"))
    promise.append_copy(CHUNKS, of_2021[1], chunk_id=F.lit("c0"), doc_id=F.lit("gone"))
    tables.delta(CHUNKS).delete(F.col("chunk_id") == of_2023[0])
    promise.append_copy(CHUNKS, of_2021[2])
    tables.delta(EMBEDDINGS).delete(F.col("chunk_id") == of_2022[0])
    promise.append_copy(EMBEDDINGS, of_2022[1], chunk_id=F.lit("e0"))
    promise.change(EMBEDDINGS, of_2022[2], vector=F.reverse("vector"))
    promise.change(EMBEDDINGS, of_2022[3], partition=F.lit("2020"))
    (content,) = [c for key, c in lakehouse.rows(EMBEDDINGS, "chunk_id", "content_hash") if key == of_2022[4]]
    tables.delta(VECTORS).delete(F.col("content_hash") == content)
    promise.append_copy(EMBEDDINGS, of_2022[5])

    status, wrong = promise.command()

    assert status == 1
    assert faults_in(wrong) == {
        "documents_without_file": 1,
        "chunks_other_than_document": 1,
        "chunks_without_document": 1,
        "documents_without_all_chunks": 1,
        "doubled_chunks": 1,
        "chunks_without_embedding": 1,
        "embeddings_without_chunk": 1,
        "embeddings_other_than_vector": 1,
        "embeddings_other_than_chunk": 1,
        "embeddings_without_vector": 1,
        "doubled_embeddings": 1,
    }
    # One document; an edited, an added, a deleted and a doubled chunk; five embeddings.
    assert wrong["behind"] == {"chunk": 1, "embed": 4, "load": 5}
    # What was done to `embeddings` waits for load.
    assert [wrong[kind] for kind in KINDS] == [0, 0, 0, 0]

    status, mended = promise.command("--repair")

    assert (status, faults_in(mended), [mended[kind] for kind in KINDS]) == (0, {}, [0, 0, 0, 0])
    assert mended["advice"] == []

    # What Delta alone cannot mend is embedded, or read again, by the next run.
    tables.delta(EMBEDDINGS).delete(F.col("chunk_id") == of_2022[4])
    tables.delta(VECTORS).delete(F.col("content_hash") == content)
    status, unmended = promise.command("--repair")
    # It waits for embed now.
    assert (status, faults_in(unmended), len(unmended["advice"])) == (1, {}, 1)
    # One more than before.
    assert unmended["behind"] == {"chunk": 1, "embed": 5}
    # The others are still looked at.
    promise.change(EMBEDDINGS, of_2022[3], partition=F.lit("2020"))
    status, seen = promise.command()
    assert (status, faults_in(seen)) == (1, {"embeddings_other_than_chunk": 1})
    promise.change(EMBEDDINGS, of_2022[3], partition=F.lit("2022"))
    assert lakehouse.run().embedded == 1
    (uri,) = [uri for (uri,) in lakehouse.rows(FILES, "uri") if uri.endswith("2022.md")]
    promise.change(FILES, uri, documents=F.lit(2))
    status, unmended = promise.command("--repair")
    assert (status, faults_in(unmended), len(unmended["advice"])) == (1, {"files_with_other_documents": 1}, 1)
    again = lakehouse.run()
    assert (again.embedded, again.loaded) == (0, 0)
    whole = verify(lakehouse.settings)
    assert (whole.ok, whole.behind) == (True, {})
    assert lakehouse.assert_mirrored() == len(of_2021) + len(of_2022) + len(of_2023)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_beside_it_are_no_faults(promise, monkeypatch):
    """A run comes while the keys are asked, another while the tables are read; then a range is built anew."""
    lakehouse, asked, read = promise.lakehouse, comparison.keys_in, verify_job.snapshots
    once = iter(["run", "rebuild"])

    def changed() -> None:
        number = len(promise.keys(2023)) + 1
        lakehouse.write("2023.md", sections(2023, number), modified=1_700_000_000 + number)
        lakehouse.run()

    def keys_in(*arguments):
        if (what := next(once, None)) == "run":
            changed()
        elif what == "rebuild":
            rebuild(lakehouse.settings, ["2022"], Progress(terminal=False))
        return asked(*arguments)

    def snapshots(tables):
        before = read(tables)
        changed()
        # The children as they were, their parents as they are.
        return read(tables) | {table: before[table] for table in (CHUNKS, EMBEDDINGS, VECTORS)}

    monkeypatch.setattr(comparison, "keys_in", keys_in)
    monkeypatch.setattr(verify_job, "snapshots", snapshots)
    whole = verify(lakehouse.settings)
    assert (whole.ok, whole.current, whole.moved, next(once)) == (True, False, False, "rebuild")
    assert whole.behind["load"] > 0
    once = iter(["rebuild"])
    whole = verify(lakehouse.settings)
    assert (whole.ok, next(once, None)) == (True, None)
    lakehouse.assert_mirrored()
