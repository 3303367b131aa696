"""What a load counts: rows that changed, not rows that were written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .mirror import Mirror
from .vectors.plan import RangeAction


@dataclass
class Loaded:
    """What one load did. loaded: changed rows upserted or imported. removed: rows that were in
    Milvus and are not in it any more. built, patched: the time ranges."""

    loaded: int = 0
    removed: int = 0
    built: list[str] = field(default_factory=list)
    patched: list[str] = field(default_factory=list)
    seconds: float = 0.0


def loaded_rows(mirror: Mirror, present: Mapping[str, int], action: RangeAction) -> int:
    """How many rows of a range count as loaded: those that changed, or all where Milvus did not have them."""
    if action.whole and not (action.way == "build" and action.range in mirror.upserts and action.range in present):
        return mirror.rows_to_write(action)
    return mirror.upserts.get(action.range, 0)


def removed_rows(mirror: Mirror, present: Mapping[str, int], actions: list[RangeAction]) -> int:
    """Rows that the feed says were there and are gone, and those of ranges that differed without a change."""
    changed = mirror.changes.by_range if mirror.changes else {}
    surplus = sum(
        max(0, present.get(action.range, 0) - mirror.desired.get(action.range, 0))
        for action in actions
        if action.way != "patch" and action.range not in changed
    )
    return surplus + (mirror.changes.removed if mirror.changes else 0)
