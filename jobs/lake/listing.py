"""A streaming source whose every micro-batch is one whole listing of the documents' source.

Spark's own file source never reports a path twice, nor a deletion; a listing that is compared with
`files` shows new, changed and gone alike. The offset is a clock that only goes forward.
"""

import json
import time
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadLimit, SupportsTriggerAvailableNow

from ..errors import SourceError
from .source import list_files

NAME = "lakevec_listing"
TIMESTAMP = pa.timestamp("us", tz="UTC")
FILE_SCHEMA = pa.schema([("uri", pa.string()), ("size", pa.int64()), ("modified_at", TIMESTAMP)])
# Beside each file what is true of the whole listing: when it began, when the one before did, how long the
# walk through the source took.
ARROW_SCHEMA = pa.schema(
    [*FILE_SCHEMA, ("listed_at", TIMESTAMP), ("listed_before", TIMESTAMP), ("walk_seconds", pa.float64())]
)
SPARK_SCHEMA = (
    "uri string, size bigint, modified_at timestamp, listed_at timestamp, listed_before timestamp, walk_seconds double"
)
ROWS_PER_BATCH = 50_000


class ListingSource(DataSource):
    """Options: `root` (source_root), `include` and `exclude` (JSON lists of globs)."""

    @classmethod
    def name(cls) -> str:
        return NAME

    def schema(self) -> str:
        return SPARK_SCHEMA

    def streamReader(self, schema) -> "ListingReader":  # noqa: N802 (Spark's name)
        return ListingReader(
            self.options["root"], json.loads(self.options["include"]), json.loads(self.options["exclude"])
        )


class ListingReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    def __init__(self, root: str, include: Sequence[str], exclude: Sequence[str]):
        self.root, self.include, self.exclude = root, include, exclude
        self.once = False
        self.listed_at: int | None = None

    def initialOffset(self) -> dict:  # noqa: N802
        return {"at": 0}

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        self.once = True

    def latestOffset(self, start: dict, limit: ReadLimit) -> dict:  # noqa: N802
        if self.once and self.listed_at is not None:
            return {"at": max(self.listed_at, start["at"])}
        # A clock that was set back must not end the listings.
        self.listed_at = max(int(time.time() * 1000), start["at"] + 1)
        return {"at": self.listed_at}

    def partitions(self, start: dict, end: dict) -> Sequence[InputPartition]:
        return [InputPartition((start["at"], end["at"]))]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        before, at = partition.value
        begun = time.monotonic()
        batches = list(listing_batches(self.root, self.include, self.exclude))
        seconds = time.monotonic() - begun
        whole = (at * 1000, TIMESTAMP), (before * 1000 or None, TIMESTAMP), (seconds, pa.float64())
        for batch in batches:
            constants = [pa.repeat(pa.scalar(value, kind), len(batch)) for value, kind in whole]
            yield pa.RecordBatch.from_arrays([*batch.columns, *constants], schema=ARROW_SCHEMA)

    def commit(self, end: dict) -> None:
        """Nothing to forget: the listing is made anew every time."""


def listing_batches(root: str, include: Sequence[str], exclude: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Raises SourceError where a folder cannot be read."""
    try:
        files = list_files(root, include, exclude)
    except OSError as error:
        raise SourceError(f"The source {root} cannot be listed: {error}. Nothing was changed.") from error
    for first in range(0, len(files), ROWS_PER_BATCH):
        some = files[first : first + ROWS_PER_BATCH]
        yield pa.RecordBatch.from_arrays(
            [
                pa.array([file.uri for file in some], pa.string()),
                pa.array([file.size for file in some], pa.int64()),
                pa.array([file.modified_us for file in some], pa.timestamp("us", tz="UTC")),
            ],
            schema=FILE_SCHEMA,
        )


def list_now(spark: SparkSession, root: str, include: Sequence[str], exclude: Sequence[str]) -> DataFrame:
    """One listing, now: rows of (uri, size, modified_at)."""
    return spark.createDataFrame(pa.Table.from_batches(listing_batches(root, include, exclude), schema=FILE_SCHEMA))


def listings(spark: SparkSession, root: str, include: Sequence[str], exclude: Sequence[str]) -> DataFrame:
    """A stream of files (SPARK_SCHEMA); every micro-batch is one whole listing.

    listed_before is null in the first one.
    """
    spark.dataSource.register(ListingSource)
    return (
        spark.readStream.format(NAME)
        .option("root", root)
        .option("include", json.dumps(list(include)))
        .option("exclude", json.dumps(list(exclude)))
        .load()
    )
