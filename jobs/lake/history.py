"""`partitions`: what is written down about the generations. What is live, the routes in Milvus say."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from pyspark.sql import functions as F

from .changes import INSERT, UPDATE, apply, with_action
from .tables import PARTITIONS, LakeTables

LIVE, RETIRED = "live", "retired"


@dataclass(frozen=True)
class PartitionRow:
    """A row of PARTITIONS. The columns' comments are in tables.py."""

    collection: str
    range: str
    generation: int
    way: str | None = None
    state: str = LIVE
    rows: int | None = None
    version: int | None = None
    index_type: str | None = None
    index_build: str | None = None
    import_tasks: tuple[int, ...] | None = None
    seconds: float | None = None
    at: datetime | None = None


def known_rows(tables: LakeTables, collection: str) -> list[PartitionRow]:
    rows = tables.present(PARTITIONS).where(F.col("collection") == collection).collect()
    return [
        PartitionRow(**{**row.asDict(), "import_tasks": row["import_tasks"] and tuple(row["import_tasks"])})
        for row in rows
    ]


def corrections(
    known: Iterable[PartitionRow], live: Mapping[str, int], new: Iterable[PartitionRow], collection: str
) -> list[PartitionRow]:
    """Rows that must be written so that the history agrees with the routes.

    live: range -> generation, as the routes have it. new: generations that this load made. A live
    generation that nobody wrote down (a crash came between) gets a row without particulars.
    """
    rows = {(row.range, row.generation): row for row in known}
    made = {(row.range, row.generation): row for row in new}
    desired = {
        key: PartitionRow(**{**asdict(row), "state": LIVE if live.get(row.range) == row.generation else RETIRED})
        for key, row in {**rows, **made}.items()
    }
    for key in live.items():
        desired.setdefault(key, PartitionRow(collection, *key))
    return [row for key, row in sorted(desired.items()) if row != rows.get(key)]


def write_rows(tables: LakeTables, rows: Iterable[PartitionRow], known: Iterable[PartitionRow]) -> None:
    """known: all rows of the same collection that are there."""
    there = {(row.range, row.generation) for row in known}
    values = [(*asdict(row).values(), UPDATE if (row.range, row.generation) in there else INSERT) for row in rows]
    if values:
        apply(tables, PARTITIONS, tables.spark.createDataFrame(values, with_action(PARTITIONS)))


def with_rows(known: Iterable[PartitionRow], written: Iterable[PartitionRow]) -> list[PartitionRow]:
    """`known` after `written` were written."""
    return list({(row.range, row.generation): row for row in [*known, *written]}.values())
