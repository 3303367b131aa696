"""Deciding how Milvus is made to hold what the lake holds: pure, on numbers of rows by time range."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigurationError
from ..settings import Granularity, Load

Way = Literal["patch", "build"]

# Imports that are submitted together.
MOST_RANGES_AT_ONCE = 256

COARSER: dict[Granularity, Granularity] = {"day": "week", "week": "month", "month": "quarter", "quarter": "year"}


@dataclass(frozen=True)
class RangeAction:
    """What one time range needs. whole: from all its rows, not from the changed ones. drop: no rows are left."""

    range: str
    way: Literal["patch", "build", "drop"]
    whole: bool = False


def decide(changed_rows: int, range_rows: int, settings: Load | None) -> Way:
    """Build a range anew where many of its rows changed, both in number and in share.

    settings: None where nothing can be built.
    """
    if settings is None:
        return "patch"
    much = changed_rows > settings.build_rows and changed_rows > settings.build_share * range_rows
    return "build" if much else "patch"


def reconcile_ranges(
    desired: Mapping[str, int],
    present: Mapping[str, int],
    changed: Mapping[str, int] | None,
    settings: Load | None,
    anew: Collection[str] = (),
) -> list[RangeAction]:
    """What makes Milvus hold `desired`, by range.

    desired: rows in `embeddings`. present: rows in Milvus, for the live ranges.
    changed: rows to upsert and delete since the version that Milvus holds; None where that is not known.
    settings: None where nothing can be built. anew: ranges to make anew whatever Milvus holds.
    A range that should not have changed and has another number of rows is made anew from all its rows.
    """
    actions = []
    for name in sorted(desired.keys() | present.keys()):
        rows = desired.get(name, 0)
        if not rows:
            if name in present:
                actions.append(RangeAction(name, "drop"))
        elif name in anew:
            actions.append(RangeAction(name, "build" if settings else "patch", whole=True))
        elif name not in present or changed is None:
            actions.append(RangeAction(name, decide(rows, rows, settings), whole=True))
        elif name in changed:
            way = decide(changed[name], rows, settings)
            actions.append(RangeAction(name, way, whole=way == "build"))
        elif present[name] != rows:
            actions.append(RangeAction(name, decide(rows, rows, settings), whole=True))
    return actions


def waves(rows_of: Mapping[str, int], live: Collection[str], free: int, most_rows: int) -> list[list[str]]:
    """Ranges to build, in groups: what a group replaces is dropped before the next is begun.

    rows_of: their rows. live: ranges that readers have already. free: partitions that can still be
    made. most_rows: rows of a group; a range that has more is one of its own.
    New ranges come first, so that a passage which moves there is found before it leaves.
    """
    groups: list[list[str]] = []
    rows = room = 0
    for name in sorted(rows_of, key=lambda name: (name in live, name)):
        if not groups or rows + rows_of[name] > most_rows or len(groups[-1]) >= room:
            free -= sum(each not in live for each in groups[-1]) if groups else 0
            room = min(max(free, 1), MOST_RANGES_AT_ONCE)
            groups.append([])
            rows = 0
        groups[-1].append(name)
        rows += rows_of[name]
    return groups


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
