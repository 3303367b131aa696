"""Deciding how Milvus is made to hold what the lake holds: pure, on numbers of rows by time range."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigurationError
from ..settings import Granularity, Load

Way = Literal["patch", "build"]

COARSER: dict[Granularity, Granularity] = {"day": "week", "week": "month", "month": "quarter", "quarter": "year"}


@dataclass(frozen=True)
class RangeAction:
    """What one time range needs. whole: from all its rows, not from the changed ones. drop: no rows are left."""

    range: str
    way: Literal["patch", "build", "drop"]
    whole: bool = False


def decide(changed_rows: int, range_rows: int, settings: Load) -> Way:
    """Build a range anew where many of its rows changed, both in number and in share."""
    much = changed_rows > settings.build_rows and changed_rows > settings.build_share * range_rows
    return "build" if much else "patch"


def reconcile_ranges(
    desired: Mapping[str, int],
    present: Mapping[str, int],
    changed: Mapping[str, int] | None,
    settings: Load,
) -> list[RangeAction]:
    """What makes Milvus hold `desired`, by range.

    desired: rows in `embeddings`. present: rows in Milvus, for the live ranges.
    changed: rows to upsert and delete since the version that Milvus holds; None where that is not known.
    A range that should not have changed and has another number of rows is made anew from all its rows.
    """
    actions = []
    for name in sorted(desired.keys() | present.keys()):
        rows = desired.get(name, 0)
        if not rows:
            if name in present:
                actions.append(RangeAction(name, "drop"))
        elif name not in present or changed is None:
            actions.append(RangeAction(name, decide(rows, rows, settings), whole=True))
        elif name in changed:
            way = decide(changed[name], rows, settings)
            actions.append(RangeAction(name, way, whole=way == "build"))
        elif present[name] != rows:
            actions.append(RangeAction(name, decide(rows, rows, settings), whole=True))
    return actions


def partition_limit(server_version: tuple[int, int, int]) -> int:
    """Partitions that a collection may have by a server's default: 4,096 up to Milvus 2.3, then 1,024."""
    return 1024 if server_version >= (2, 4, 0) else 4096


def check_limit(ranges: Collection[str], limit: int, granularity: Granularity) -> None:
    """Refuse more time ranges than the server has room for, before anything is written.

    ranges: their names. limit: partitions of a collection, `_default` included.
    """
    # `_default`, and one for a generation that is being built.
    room = limit - 2
    if len(ranges) > room:
        way_on = (
            f"Give a new lake.path with partition.granularity = {COARSER[granularity]} or coarser."
            if granularity in COARSER
            else "Give a server with a higher limit."
        )
        raise ConfigurationError(
            f"The lake has {len(ranges):,} time ranges by {granularity}, from {min(ranges)} to {max(ranges)}, but this "
            f"Milvus server has room for {room:,} (its limit is {limit:,} partitions). Nothing was loaded. {way_on} "
            "If the server's rootCoord.maxPartitionNum was changed, set milvus.max_partitions to it."
        )
