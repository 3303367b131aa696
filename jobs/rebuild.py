"""Milvus anew from Delta alone: a load that builds every range, or the named ones, beside what is live."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from .errors import ConfigurationError
from .lake.lock import locked
from .lake.stream import begun_again
from .load import load
from .mirror import lake_rows
from .progress import Progress
from .run import opened
from .settings import Settings
from .vectors.connection import connect
from .vectors.routes import read_routes


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild did. rows: of the ranges that were rebuilt. generations: those that are live now, by
    range. built: new generations beside the old. patched: ranges that were written over in place,
    because nothing can be built there (Milvus Lite, or no load.staging)."""

    rows: int
    generations: dict[str, int]
    built: list[str]
    patched: list[str]
    seconds: float


def rebuild(settings: Settings, ranges: Collection[str] = (), progress: Progress | None = None) -> RebuildReport:
    """Make Milvus anew from `embeddings`, with no gap for a reader; only these ranges where some are named.

    Raises ConfigurationError for a range that the lake does not have, and what `load` raises.
    """
    begun = time.monotonic()
    progress = progress or Progress()
    with (
        locked(settings, "rebuild", ["load"]),
        opened(settings, ("load",), progress, is_locked=True) as work,
    ):
        known = lake_rows(work.lake)
        chosen = chosen_ranges(ranges, known)
        arguments = work.lake, settings, work.address, progress, work.staging, work.metrics, chosen
        done = begun_again(load, *arguments)
        routes = read_routes(connect(work.address), settings.milvus.collection)
    live = routes.generations if routes else {}
    report = RebuildReport(
        sum(known[name] for name in chosen),
        {name: live[name] for name in chosen if name in live},
        [name for name in done.built if name in chosen],
        [name for name in done.patched if name in chosen],
        round(time.monotonic() - begun, 3),
    )
    progress.log("rebuild.done", ranges=len(chosen), rows=report.rows, seconds=report.seconds)
    return report


def chosen_ranges(ranges: Collection[str], known: Collection[str]) -> list[str]:
    """The named ranges, or all; refuses a name that the lake does not have."""
    unknown = sorted(set(ranges) - set(known))
    if unknown:
        there = f"It has {', '.join(sorted(known))}." if known else "It has none yet."
        raise ConfigurationError(f"The lake has no time range {', '.join(unknown)}. {there}")
    return sorted(set(ranges) or known)
