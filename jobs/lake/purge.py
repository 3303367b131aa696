"""Making deletions physical: of a table there is left what it holds now, and nothing that it ever held before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from pyarrow import fs
from pyspark.sql import SparkSession

from .storage import storage
from .tables import STATISTICS, LakeTables, Table

RETENTION_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"


@dataclass(frozen=True)
class Purged:
    """rewritten: data files that held deleted rows beside others. removed: files that are gone from the
    store. left_over: data files that are there and hold no row of the table; more than none is a failure."""

    rewritten: int
    removed: int
    left_over: int


def purge(tables: LakeTables, table: Table) -> Purged:
    """Rewrite files with deleted rows, then remove all that only old versions and the change feed need.

    Older versions cannot be read any more. Nobody else may write the table meanwhile.
    """
    before = data_files(tables, table)
    name = tables.identifier(table)
    rewritten = tables.spark.sql(f"REORG TABLE {name} APPLY (PURGE)").select("metrics.numFilesRemoved").first()
    written = data_files(tables, table)
    with without_retention(tables.spark):
        tables.spark.sql(f"VACUUM {name} RETAIN 0 HOURS")
    after = data_files(tables, table)
    present = {unquote(PurePosixPath(file).name) for file in tables.read(table).inputFiles()}
    return Purged(rewritten[0] if rewritten else 0, len((before | written) - after), len(after - present))


def limit_statistics(tables: LakeTables, table: Table) -> bool:
    """Let the table keep statistics of no text from now on. Whether it did so before: older ones do not."""
    if STATISTICS in tables.properties(table):
        return True
    tables.set_property(table, STATISTICS, table.properties[STATISTICS])
    return False


def data_files(tables: LakeTables, table: Table) -> set[str]:
    """Names of the Parquet files below a table's folder, those of the change feed included.

    Checkpoints of the log hold no rows, and no statistics of texts (tables.py).
    """
    location = tables.delta(table).detail().select("location").first()
    system, path = storage(location[0])  # pyright: ignore[reportOptionalSubscript]
    found = system.get_file_info(fs.FileSelector(path, recursive=True))
    return {
        info.base_name
        for info in found
        if info.type == fs.FileType.File and info.extension == "parquet" and "/_delta_log/" not in info.path
    }


@contextmanager
def without_retention(spark: SparkSession) -> Iterator[None]:
    """Delta refuses to remove what is younger than a week, unless it is told that this is meant."""
    before = spark.conf.get(RETENTION_CHECK, None)
    spark.conf.set(RETENTION_CHECK, "false")
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(RETENTION_CHECK)
        else:
            spark.conf.set(RETENTION_CHECK, before)
