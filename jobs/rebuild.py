"""Milvus anew from Delta alone: a load that builds every range, or the named ones, beside what is live."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from pyspark.sql import functions as F

from .errors import ConfigurationError
from .lake.lake import open_lake
from .lake.lock import locked
from .lake.session import spark_session
from .lake.tables import EMBEDDINGS
from .load import load
from .mirror import rows_by
from .progress import Progress
from .run import staging_for
from .settings import Settings
from .vectors.connection import connect, milvus_for
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
    with locked(settings, "rebuild", ["load"]):
        lake = open_lake(spark_session(settings.spark), settings)
        known = rows_by(lake.tables.read(EMBEDDINGS), F.col("partition"))
        chosen = chosen_ranges(ranges, known)
        with milvus_for(settings) as address:
            done = load(lake, settings, address, progress, staging_for(settings), anew=chosen)
            routes = read_routes(connect(address), settings.milvus.collection)
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
