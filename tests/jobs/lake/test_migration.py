import shutil
from dataclasses import replace

import pytest
from lakevec.jobs.errors import ConfigurationError, LakeBusyError, LakevecError
from lakevec.jobs.lake import migration
from lakevec.jobs.lake.lake import open_lake
from lakevec.jobs.lake.lock import locked
from lakevec.jobs.lake.migration import VERSION, Step, TableState, needed
from lakevec.jobs.lake.tables import EMBEDDINGS, FILES, PARTITIONS, SCHEMA_VERSION, TABLES, TEXT, column
from lakevec.jobs.status import status
from pyspark.sql.types import StructType

COLUMNS = {field.name: field.dataType.simpleString() for field in FILES.schema}
NOW = TableState(SCHEMA_VERSION, COLUMNS)
NEW = column("language", TEXT, "Its author's \\ language")


def without(name: str) -> TableState:
    return replace(NOW, columns={key: kind for key, kind in COLUMNS.items() if key != name})


def test_what_is_missing_is_made_and_embeddings_comes_last():
    columns = {field.name: field.dataType.simpleString() for field in EMBEDDINGS.schema}

    assert needed({EMBEDDINGS: TableState("1", columns), PARTITIONS: None, FILES: without("seen_at")}) == [
        Step(PARTITIONS, is_missing=True),
        Step(FILES, columns=(FILES.schema["seen_at"],)),
        Step(EMBEDDINGS),
    ]
    assert needed({FILES: replace(NOW, columns={**COLUMNS, "somebodys_own": "string"})}) == []


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (replace(NOW, version="3"), "a newer lakevec made it"),
        (replace(NOW, version="0"), "'0', which no lakevec wrote"),
        (replace(NOW, version="1b"), "'1b', which no lakevec wrote"),
        (replace(NOW, version=None), f"no property {VERSION}"),
        (replace(NOW, columns={**COLUMNS, "size": "int"}), "its column size is int and not bigint"),
        (without("uri"), "its key column uri is missing"),
        (None, "it is gone, and with an empty one"),
    ],
)
def test_what_no_version_explains_is_refused_and_the_table_is_named(found, why):
    with pytest.raises(LakevecError, match=rf"The table `files` .*{why}"):
        needed({FILES: found})


def test_a_lake_without_embeddings_is_no_new_lake_but_one_that_was_being_made_is(lakehouse):
    tables = lakehouse.lake().tables
    shutil.rmtree(f"{tables.path}/{EMBEDDINGS.name}")
    with pytest.raises(ConfigurationError, match="There is no lake"):
        lakehouse.lake()
    open_lake(lakehouse.spark, lakehouse.settings, create=True)
    lakehouse.write("a.md", "# A\n\nA text.")
    lakehouse.run(("ingest",))
    shutil.rmtree(f"{tables.path}/{EMBEDDINGS.name}")

    for refused in (lakehouse.lake, lambda: lakehouse.run(("ingest",))):
        with pytest.raises(LakevecError, match=r"The table `embeddings` .* it is gone"):
            refused()
    assert not tables.exists(EMBEDDINGS)
    assert tables.read(FILES).count() == 1


@pytest.fixture
def newer_definitions(monkeypatch):
    """As if the next version of every table had one column more."""
    tables = tuple(replace(table, schema=StructType([*table.schema, NEW])) for table in TABLES)
    monkeypatch.setattr(migration, "TABLES", tables)


@pytest.mark.slow
def test_an_older_lake_is_migrated_by_the_next_run_with_changes_on_their_way(lakehouse, newer_definitions, monkeypatch):
    tables = lakehouse_of_version_1(lakehouse, monkeypatch)

    with pytest.raises(LakevecError, match="made by an older lakevec"):
        status(lakehouse.settings)
    with (
        locked(lakehouse.settings, "load", ["load"]),
        pytest.raises(LakeBusyError, match="the stage load of this lake: `lakevec load`"),
    ):
        lakehouse.run(("chunk",))
    with monkeypatch.context() as patch:
        patch.setattr(type(tables), "set_property", dies)
        with pytest.raises(KeyboardInterrupt):
            lakehouse.run(("chunk",))
    report = lakehouse.run(("chunk",))

    assert report.chunks == 1
    assert {tables.properties(table)[VERSION] for table in TABLES} == {SCHEMA_VERSION}
    comments = {table.name: tables.read(table).schema["language"].metadata["comment"] for table in TABLES}
    assert set(comments.values()) == {"Its author's \\ language"}
    # The feeds that a change of the columns stands in are read on.
    assert (lakehouse.run().embedded, lakehouse.assert_mirrored()) == (2, 2)


def lakehouse_of_version_1(lakehouse, monkeypatch):
    """One document before embed, one before chunk; a table is missing, and the newer column everywhere."""
    with monkeypatch.context() as patch:
        patch.setattr(migration, "TABLES", TABLES)
        lakehouse.write("a.md", "# A\n\nA text.", modified=1_700_000_000)
        lakehouse.run(("ingest",))
        lakehouse.run(("chunk",))
        lakehouse.write("b.md", "# B\n\nA second text.", modified=1_700_000_001)
        lakehouse.run(("ingest",))
        tables = lakehouse.lake().tables
    for table in TABLES:
        tables.set_property(table, VERSION, "1")
    shutil.rmtree(f"{tables.path}/{PARTITIONS.name}")
    return tables


def dies(*_):
    raise KeyboardInterrupt
