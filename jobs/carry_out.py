"""Doing what a load decided: build, patch, and let go what is not in a range any more."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pyspark.sql import functions as F

from .errors import MilvusError
from .generations import made_row
from .lake.history import PartitionRow
from .lake.tables import EMBEDDINGS
from .leaving import leaving_keys
from .mirror import Mirror, snapshot
from .progress import Advance
from .tally import Loaded, loaded_rows
from .transfer import upsert_rows, write_import_files
from .vectors import partitions
from .vectors.build import import_files
from .vectors.partitions import Generation
from .vectors.patch import delete
from .vectors.plan import RangeAction
from .vectors.routes import Routes, publish

# How long the rows of a partition that was just loaded may take to be seen.
SEEN_NEW_SECONDS = 120.0


@dataclass
class Work:
    """What this load has done so far. present: rows that Milvus had. last: highest generation ever, by range."""

    routes: Routes
    present: Mapping[str, int]
    last: dict[str, int]
    made: list[PartitionRow] = field(default_factory=list)
    replaced: list[Generation] = field(default_factory=list)
    done: Loaded = field(default_factory=Loaded)


def carry_out(mirror: Mirror, work: Work, actions: list[RangeAction], advance: Advance) -> None:
    """Do what was decided. Routes with new generations are published before rows leave old ranges."""
    begun = time.monotonic()
    built = [action.range for action in actions if action.way == "build"]
    patched = [action for action in actions if action.way == "patch"]
    new = [action.range for action in patched if action.range not in work.routes.generations]
    generations = {name: Generation(name, work.last.get(name, 0) + 1) for name in [*built, *new]}
    work.last |= {name: generation.generation for name, generation in generations.items()}

    tasks = build_ranges(mirror, {name: generations[name] for name in built}, advance)
    partitions.create(mirror.client, mirror.collection, [generations[name] for name in new])
    partitions.load(mirror.client, mirror.collection, [generations[name] for name in new])
    live = work.routes.generations
    patch_ranges(mirror, patched, {name: Generation(name, live[name]) for name in live} | generations, advance)
    wait_until_seen(mirror, {generation: mirror.desired[name] for name, generation in generations.items()})

    dropped = {action.range for action in actions if action.way == "drop"}
    work.replaced += [each for each in work.routes.live if each.range in generations or each.range in dropped]
    seconds = round(time.monotonic() - begun, 3)
    work.made += [
        made_row(mirror, work.routes.index, generation, tasks.get(generation), seconds)
        for generation in generations.values()
    ]
    kept = {name: number for name, number in live.items() if name not in dropped}
    work.routes = replace(work.routes, generations=kept | {name: each.generation for name, each in generations.items()})
    leaving = leaving_keys(mirror, work.routes, [action for action in patched if action.range not in generations])
    if leaving and generations:
        # Moved passages must be found in their new range before they leave the old one.
        publish(mirror.client, mirror.settings.milvus.collection, work.routes)
    for name, keys in leaving.items():
        delete(mirror.client, mirror.collection, work.routes.partition(name), keys)
    work.done.removed += sum(
        len(leaving.get(action.range, [])) for action in patched if action.whole and action.range not in mirror.deletes
    )
    work.done.built += built
    work.done.patched += [action.range for action in patched]
    work.done.loaded += sum(loaded_rows(mirror, work.present, action) for action in actions)


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
    frames = [snapshot(mirror, whole)] if whole else []
    if partly and mirror.changes and mirror.changes.rows is not None:
        changed = mirror.changes.rows.where(~F.col("deleted") & F.col("partition").isin(partly))
        frames.append(changed.select(*EMBEDDINGS.schema.names))
    for frame in frames:
        ranges = whole if frame is frames[0] and whole else partly
        upsert_rows(
            frame,
            {name: rows_of[name] for name in ranges},
            {name: generations[name].partition for name in ranges},
            mirror.client,
            mirror.address,
            mirror.collection,
            mirror.lake.model.dimension,
        )
        advance(sum(rows_of[name] for name in ranges))


def wait_until_seen(mirror: Mirror, expected: Mapping[Generation, int]) -> None:
    """Wait for the rows of new generations, which nobody else writes."""
    differing = partitions.wait_for_rows(mirror.client, mirror.collection, expected, SEEN_NEW_SECONDS)
    for generation, rows in differing.items():
        raise MilvusError(
            f"The new partition {generation.partition} of {mirror.collection} shows {rows:,} rows, but "
            f"{expected[generation]:,} were written. Nothing that is live was touched; run again, and see the "
            "server's log if it stays so."
        )
