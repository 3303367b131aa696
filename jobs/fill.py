"""Filling partitions: new generations by bulk import, live ones by upserts."""

from collections.abc import Collection, Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .errors import MilvusError
from .lake.tables import EMBEDDINGS
from .mirror import Mirror, rows_by, snapshot
from .progress import Advance
from .transfer import upsert_rows, write_import_files
from .vectors import partitions
from .vectors.build import import_files
from .vectors.partitions import Generation
from .vectors.plan import RangeAction

# How long the rows of a partition that was just loaded may take to be seen.
SEEN_NEW_SECONDS = 120.0


def build_ranges(
    mirror: Mirror, generations: Mapping[str, Generation], advance: Advance
) -> dict[Generation, list[int]]:
    """Fill and load new generations by bulk import, all at the same time. Gives their import tasks."""
    if not generations or mirror.staging is None:
        return {}
    rows_of = {name: mirror.desired[name] for name in generations}
    mirror.staging.clear()
    try:
        files = write_import_files(
            snapshot(mirror, list(generations)), rows_of, mirror.staging, mirror.lake.model.dimension
        )
        tasks = import_files(mirror.client, mirror.address, mirror.collection, generations, files, mirror.staging)
    finally:
        mirror.staging.clear()
    advance(sum(rows_of.values()))
    return tasks


def patch_ranges(
    mirror: Mirror, actions: list[RangeAction], generations: Mapping[str, Generation], advance: Advance
) -> None:
    """Upsert the rows of these ranges, all or the changed ones."""
    rows_of = {action.range: rows for action in actions if (rows := mirror.rows_to_write(action))}
    whole = [action.range for action in actions if action.whole]
    partly = [action.range for action in actions if not action.whole and action.range in rows_of]
    frames = [(whole, snapshot(mirror, whole))] if whole else []
    if partly and mirror.changes and mirror.changes.rows is not None:
        frames.append((partly, mirror.changes.rows.where(~F.col("deleted") & F.col("partition").isin(partly))))
    for ranges, rows in frames:
        upsert_into(mirror, rows, {name: rows_of[name] for name in ranges}, generations)
        advance(sum(rows_of[name] for name in ranges))


def upsert_arrivals(mirror: Mirror, ranges: Collection[str], live: Mapping[str, Generation]) -> None:
    """Upsert the passages that moved to these ranges into what is live of them, before they leave elsewhere."""
    ranges = [name for name in ranges if name in live and name in mirror.upserts]
    if not ranges or not mirror.changes or mirror.changes.rows is None:
        return
    moved = mirror.changes.rows.where(~F.col("deleted") & F.col("partition").isin(ranges) & (F.size("ranges") > 1))
    if rows_of := rows_by(moved, F.col("partition")):
        upsert_into(mirror, moved, rows_of, live)


def upsert_into(
    mirror: Mirror, rows: DataFrame, rows_of: Mapping[str, int], generations: Mapping[str, Generation]
) -> None:
    """Upsert rows of EMBEDDINGS into the partitions of their ranges."""
    upsert_rows(
        rows.select(*EMBEDDINGS.schema.names),
        rows_of,
        {name: generations[name].partition for name in rows_of},
        mirror.client,
        mirror.address,
        mirror.collection,
        mirror.lake.model.dimension,
    )


def wait_until_seen(mirror: Mirror, expected: Mapping[Generation, int]) -> None:
    """Wait for the rows of new generations, which nobody else writes."""
    differing = partitions.wait_for_rows(mirror.client, mirror.collection, expected, SEEN_NEW_SECONDS)
    for generation, rows in differing.items():
        raise MilvusError(
            f"The new partition {generation.partition} of {mirror.collection} shows {rows:,} rows, but "
            f"{expected[generation]:,} were written. Nothing that is live was touched; run again, and see the "
            "server's log if it stays so."
        )
