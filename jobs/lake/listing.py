"""Whole listings of the documents' source, and the stream whose micro-batches are the occasions for them.

Spark's own file source never reports a path twice, nor a deletion; a listing that is compared with
`files` shows new, changed and gone alike.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

import pyarrow as pa
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession

from ..errors import SourceError
from .source import list_files
from .storage import storage
from .stream import batches, delete_folder

SCHEMA = pa.schema([("uri", pa.string()), ("size", pa.int64()), ("modified_at", pa.timestamp("us", tz="UTC"))])
ROWS_PER_BATCH = 50_000


def list_now(root: str, include: Sequence[str], exclude: Sequence[str]) -> pa.Table:
    """One listing, now: rows of SCHEMA. Raises SourceError where a folder cannot be read."""
    try:
        return pa.Table.from_batches(listing_batches(root, include, exclude), SCHEMA)
    except OSError as error:
        raise SourceError(f"The source {root} cannot be listed: {error}. Nothing was changed.") from error


def listing_batches(root: str, include: Sequence[str], exclude: Sequence[str]) -> Iterator[pa.RecordBatch]:
    files = list_files(root, include, exclude)
    while some := list(islice(files, ROWS_PER_BATCH)):
        columns = ([file.uri for file in some], [file.size for file in some], [file.modified_us for file in some])
        arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def occasions(spark: SparkSession) -> DataFrame:
    """A stream of one row in each micro-batch, one micro-batch in each trigger; with availableNow, one in all.

    The listing itself is made on the driver: a source in Python that made it on an executor would start four
    Python processes at each begin, some 3 s on two cores.
    """
    return spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).option("numPartitions", 1).load()


def occasion_before(checkpoint: str, number: int) -> datetime | None:
    """When the micro-batch before this one began; None for the first, and where nobody knows."""
    system, path = storage(checkpoint)
    info = system.get_file_info(f"{path}/offsets/{number - 1}")
    return info.mtime and info.mtime.astimezone(UTC) if info.type == fs.FileType.File else None


def drop_older_offsets(checkpoint: str) -> None:
    """Delete a checkpoint whose offsets are clocks, as an older lakevec's listing had them: no stream goes on there.

    Nothing is lost: a stage that begins compares everything.
    """
    numbers = batches(checkpoint, "offsets")
    if not numbers:
        return
    system, path = storage(checkpoint)
    with system.open_input_stream(f"{path}/offsets/{max(numbers)}") as file:
        if b'{"at":' in file.read():
            delete_folder(checkpoint)
