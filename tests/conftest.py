"""One Milvus server and one Spark session for the whole run; a lake of its own for each test that wants one."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lakevec.jobs.lake.lake import Lake, open_lake
from lakevec.jobs.lake.session import spark_session
from lakevec.jobs.lake.tables import EMBEDDINGS, LakeTables, Table
from lakevec.jobs.progress import Progress
from lakevec.jobs.run import STAGES, RunReport, run_once
from lakevec.jobs.search import SearchReport, search
from lakevec.jobs.settings import Settings, load_settings
from lakevec.jobs.status import status
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.server import serving
from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def milvus(tmp_path_factory):
    """The address of a real standalone server; give collections names of your own."""
    with serving(tmp_path_factory.mktemp("milvus")) as server:
        yield MilvusAddress(str(server.uri))


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spark")
    settings = load_settings(
        "local",
        [
            "spark.master=local[2]",
            f"spark.conf.spark.sql.warehouse.dir={folder / 'warehouse'}",
            f"spark.conf.spark.local.dir={folder / 'local'}",
            # With the JVM's second compiler: this session lasts.
            f"spark.conf.spark.driver.extraJavaOptions=-Dderby.system.home={folder}",
        ],
        environment={},
    )
    session = spark_session(settings.spark)
    yield session
    session.stop()


@dataclass
class Lakehouse:
    """A source folder, a lake and an index, and what one does with them."""

    spark: SparkSession
    source: Path
    settings: Settings

    def write(self, name: str, content: str | bytes, modified: int | None = None) -> Path:
        """A file of the source; `modified` in seconds since 1970."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if modified is not None:
            os.utime(path, (modified, modified))
        return path

    @property
    def options(self) -> list[str]:
        """What tells the command line of this source, lake and index."""
        settings = self.settings
        given = {
            "source.path": settings.source.path,
            "lake.path": settings.lake.path,
            "milvus.uri": settings.milvus.uri,
            "milvus.collection": settings.milvus.collection,
        }
        return [word for key, value in given.items() for word in ("--set", f"{key}={value}")]

    def run(self, stages: tuple[str, ...] = STAGES, allow_deletes: bool = False) -> RunReport:
        return run_once(self.settings, stages, allow_deletes, Progress(terminal=False))

    def search(self, query: str, **limits) -> SearchReport:
        return search(self.settings, query, **limits)

    def lake(self) -> Lake:
        return open_lake(self.spark, self.settings)

    def rows(self, table: Table, *columns: str) -> list[tuple]:
        return sorted(tuple(row) for row in self.lake().tables.read(table).select(*columns).collect())

    def assert_mirrored(self) -> int:
        """Milvus holds exactly the keys of `embeddings`, once each, range by range. Gives their number."""
        report = status(self.settings)
        unequal = {name: rows for name, rows in report.partitions.items() if rows["state"] != "equal"}
        assert not unequal
        keys = [key for (key,) in self.rows(EMBEDDINGS, "chunk_id")]
        assert len(keys) == len(set(keys)) == sum(rows["milvus_rows"] for rows in report.partitions.values())
        assert self.keys_in_milvus() == keys
        return len(keys)

    def empty_milvus(self) -> None:
        """Take everything from Milvus that this lake has there, as when its disk was lost."""
        drop_collections(MilvusAddress(self.settings.milvus.uri), (self.settings.milvus.collection,))

    def keys_in_milvus(self) -> list[str]:
        client = connect(MilvusAddress(self.settings.milvus.uri))
        if client.list_partitions(self.settings.milvus.collection) == ["_default"]:
            # Nothing is loaded, so nothing can be asked; and nothing is there.
            return []
        found = client.query_iterator(
            self.settings.milvus.collection, output_fields=["chunk_id"], consistency_level="Strong"
        )
        keys = []
        while batch := found.next():
            keys += [row["chunk_id"] for row in batch]
        return sorted(keys)


@pytest.fixture
def cut_log(spark) -> Callable[[LakeTables, Table], None]:
    """Leaves of a table's log its newest commit, and the checkpoint before it: as of one that grew long."""

    def cut(tables: LakeTables, table: Table) -> None:
        folder, newest = Path(tables.path) / table.name, tables.version(table)
        logs = spark._jvm.org.apache.spark.sql.delta.DeltaLog
        logs.forTable(spark._jsparkSession, str(folder)).checkpoint()
        for file in (folder / "_delta_log").glob("*.json"):
            if int(file.stem) < newest:
                file.unlink()
        # As for a process of its own.
        logs.clearCache()

    return cut


@pytest.fixture(scope="session")
def empty_lake(spark, tmp_path_factory) -> Path:
    """A lake without rows, made once: to copy it is quicker than to make its tables for every test."""
    path = tmp_path_factory.mktemp("empty") / "lake"
    open_lake(spark, load_settings("local", [f"lake.path={path}"], {}), create=True)
    return path


@pytest.fixture
def new_lakehouse(spark, milvus, empty_lake) -> Iterator[Callable[..., Lakehouse]]:
    """Makes a lakehouse with nothing in it, in a folder, with settings as --set takes them."""
    made: list[str] = []

    def make(folder: Path, *overrides: str) -> Lakehouse:
        source = folder / "source"
        source.mkdir()
        shutil.copytree(empty_lake, folder / "lake")
        made.append(f"test_{uuid.uuid4().hex[:8]}")
        settings = load_settings(
            "local",
            [
                f"source.path={source}",
                f"lake.path={folder / 'lake'}",
                f"milvus.uri={milvus.uri}",
                f"milvus.collection={made[-1]}",
                *overrides,
            ],
            {},
        )
        return Lakehouse(spark, source, settings)

    yield make
    # Sixty collections that nobody asks any more cost the server 12% of a core, none 5%.
    drop_collections(milvus, tuple(made))


def drop_collections(milvus: MilvusAddress, beginnings: tuple[str, ...]) -> None:
    client = connect(milvus)
    for name in client.list_collections():
        if name.startswith(beginnings):
            for alias in client.list_aliases(name)["aliases"]:
                client.drop_alias(alias)
            client.drop_collection(name)


@pytest.fixture
def lakehouse(new_lakehouse, tmp_path) -> Lakehouse:
    return new_lakehouse(tmp_path)
