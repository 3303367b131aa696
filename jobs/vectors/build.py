"""Building generations: import files written by Spark tasks, then imported, indexed and loaded."""

# pyarrow.compute makes its functions at import time.
# pyright: reportAttributeAccessIssue=false

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs
from pymilvus import MilvusClient

from ..errors import MilvusError
from . import partitions
from .connection import MilvusAddress
from .imports import Imports, wait_for_imports
from .partitions import Generation
from .patch import RANGE
from .rows import SCHEMA, VECTOR, checked

# One import task each: few large files import fastest, and a file's vectors must fit a task's memory.
ROWS_PER_FILE = 50_000
# Which of its range's files a row belongs to.
FILE = "file"
FILES_SCHEMA = "range string, path string, rows bigint, problem string"
POLL_SECONDS = 0.5
# Readers lose nothing without an index (they are served from the raw vectors): do not wait for ever.
INDEX_STALLED_SECONDS = 600.0


@dataclass(frozen=True)
class ImportFile:
    range: str
    path: str
    rows: int


@dataclass(frozen=True)
class Staging:
    """The folder of one load's import files. root: a folder, or an address such as s3://bucket/prefix."""

    root: str

    def open(self) -> tuple[fs.FileSystem, str]:
        if "://" in self.root:
            return fs.FileSystem.from_uri(self.root)
        return fs.LocalFileSystem(), str(Path(self.root).absolute())

    def for_server(self, path: str) -> str:
        """A file's path as the server wants it: absolute in a folder, without its bucket in an object store."""
        return path.partition("/")[2] if "://" in self.root and not self.root.startswith("file:") else path

    def clear(self) -> None:
        system, path = self.open()
        if system.get_file_info(path).type == fs.FileType.Directory:
            system.delete_dir(path)


def staging_for(root: str, collection: str) -> Staging:
    """A folder of its own under `root` for one collection's files; one load at a time uses it."""
    # A bucket's URI may end in options of its file system (s3://bucket/import?region=...).
    path, mark, options = root.partition("?") if "://" in root else (root, "", "")
    return Staging(f"{path.rstrip('/')}/{collection}{mark}{options}")


def write_files_in_task(
    staging: Staging, dimension: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Import files of a Spark task's rows (mapInArrow); a row of FILES_SCHEMA for each.

    batches: rows.SCHEMA's columns, RANGE and FILE, sorted by these two. Rows that may not be written
    give their message as `problem`, and so does a place that takes no files.
    """
    try:
        yield from written_files(staging, dimension, batches)
    except OSError as error:
        yield file_row(
            *("", "", 0),
            f"Import files cannot be written to {staging.root.partition('?')[0]}: {error}. Make room there, or name "
            "another place in load.staging, then run again.",
        )


def written_files(staging: Staging, dimension: int, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    system, folder = staging.open()
    system.create_dir(folder, recursive=True)
    writing: tuple[str, int] | None = None
    path, rows = "", 0
    writer: pq.ParquetWriter | None = None
    for batch in batches:
        for key, piece in runs(batch):
            try:
                piece = checked(piece, dimension)
            except MilvusError as error:
                yield file_row(key[0], "", 0, str(error))
                continue
            if key != writing:
                if writer and writing:
                    writer.close()
                    yield file_row(writing[0], path, rows, None)
                # A repeated task writes other files: only those that are reported are imported.
                path, rows, writing = f"{folder}/{key[0]}-{key[1]}-{uuid.uuid4().hex}.parquet", 0, key
                writer = pq.ParquetWriter(path, SCHEMA, filesystem=system, compression="zstd", use_dictionary=False)
            assert writer
            writer.write_batch(piece)
            rows += len(piece)
    if writer and writing:
        writer.close()
        yield file_row(writing[0], path, rows, None)


def runs(batch: pa.RecordBatch) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
    """The parts of a sorted batch that belong to one file each."""
    names, numbers = batch.column(RANGE), batch.column(FILE)
    for name in pc.unique(names).to_pylist():
        of_range = pc.equal(names, name)
        for number in pc.unique(numbers.filter(of_range)).to_pylist():
            yield (name, number), batch.filter(pc.and_(of_range, pc.equal(numbers, number)))


def file_row(name: str, path: str, rows: int, problem: str | None) -> pa.RecordBatch:
    columns = {"range": [name], "path": [path], "rows": pa.array([rows], pa.int64())}
    return pa.RecordBatch.from_pydict({**columns, "problem": pa.array([problem], pa.string())})


def import_files(
    client: MilvusClient,
    address: MilvusAddress,
    collection: str,
    generations: Mapping[str, Generation],
    files: Iterable[ImportFile],
    staging: Staging,
) -> dict[Generation, list[int]]:
    """Fill new generations, all at the same time, and load them. Gives their import tasks.

    generations: by range; none of them exists yet. Their rows may be seen a few seconds later only:
    partitions.wait_for_rows. Raises MilvusError where an import fails.
    """
    partitions.create(client, collection, generations.values())
    imports = Imports(client, address, collection)
    tasks: dict[Generation, list[int]] = {generation: [] for generation in generations.values()}
    words = {}
    for file in files:
        generation = generations[file.range]
        task = imports.submit(staging.for_server(file.path), generation.partition)
        tasks[generation].append(task)
        words[task] = f"{file.rows:,} rows of {file.range}"
    wait_for_imports(imports, words)
    wait_for_index(client, collection)
    partitions.load(client, collection, generations.values())
    return tasks


def wait_for_index(client: MilvusClient, collection: str) -> None:
    """Return when no row waits for its index. `Finished` with no indexed rows is normal meanwhile."""
    moved_at, seen = time.monotonic(), None
    while True:
        found = client.describe_index(collection, VECTOR)
        numbers = found["total_rows"], found["indexed_rows"], found["pending_index_rows"]
        if not found["pending_index_rows"] and found["indexed_rows"] == found["total_rows"]:
            return
        if numbers != seen:
            moved_at, seen = time.monotonic(), numbers
        if time.monotonic() - moved_at > INDEX_STALLED_SECONDS:
            return
        time.sleep(POLL_SECONDS)
