"""`embeddings` -> Milvus: patch the ranges where little changed, build those where much did, publish the routes.

Milvus itself holds the version of `embeddings` that it mirrors, in its routes: a load works off the
change feed from there and needs no checkpoint. Whatever a crash leaves, the next load finds: rows
written since are written again under their keys, partitions that no route names are dropped.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from pymilvus import MilvusClient
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from .errors import MilvusError
from .lake.feed import EmbeddingChanges, departures, embedding_changes
from .lake.history import PartitionRow, corrections, known_rows, with_rows, write_rows
from .lake.lake import Lake
from .lake.tables import EMBEDDINGS
from .progress import Advance, Progress
from .settings import Load, Settings
from .transfer import upsert_rows, write_import_files
from .tuning.build_run import Build, log_builds
from .vectors import partitions
from .vectors.build import Staging, import_files, staging_for
from .vectors.collection import Owner, open_collection
from .vectors.connection import MilvusAddress, connect, server_version
from .vectors.failures import failures_told
from .vectors.partitions import Generation
from .vectors.patch import delete
from .vectors.plan import RangeAction, check_limit, partition_limit, reconcile_ranges
from .vectors.routes import Routes, publish, read_routes

# How long upserts and deletes may take to be seen, and the rows of a partition that was just loaded.
SEEN_SECONDS, SEEN_NEW_SECONDS = 10.0, 120.0


@dataclass
class Loaded:
    """What one load did. loaded: changed rows upserted or imported. removed: rows that were in
    Milvus and are not in it any more. built, patched: the time ranges."""

    loaded: int = 0
    removed: int = 0
    built: list[str] = field(default_factory=list)
    patched: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Mirror:
    """The two sides of a load, and what lies between them, by time range.

    desired: rows of `embeddings` at `version`. changes: since the version that Milvus holds, None
    where they are not known. staging: None where nothing can be built.
    """

    lake: Lake
    settings: Settings
    address: MilvusAddress
    client: MilvusClient
    collection: str
    staging: Staging | None
    version: int
    desired: Mapping[str, int]
    changes: EmbeddingChanges | None

    @property
    def upserts(self) -> Mapping[str, int]:
        return self.changes.upserts if self.changes else {}

    @property
    def deletes(self) -> Mapping[str, int]:
        return self.changes.deletes if self.changes else {}

    def rows_to_write(self, action: RangeAction) -> int:
        if action.way == "drop":
            return 0
        return self.desired[action.range] if action.whole else self.upserts.get(action.range, 0)


@dataclass
class Work:
    """What this load has done so far. present: rows that Milvus had. last: highest generation ever, by range."""

    routes: Routes
    present: Mapping[str, int]
    last: dict[str, int]
    made: list[PartitionRow] = field(default_factory=list)
    replaced: list[Generation] = field(default_factory=list)
    done: Loaded = field(default_factory=Loaded)


def load(
    lake: Lake,
    settings: Settings,
    address: MilvusAddress,
    progress: Progress,
    staging: Path | str | None = None,
) -> Loaded:
    """Make Milvus hold exactly what `embeddings` holds, once each, where readers see it.

    staging: where import files are written and the server reads them, if load.staging is unset.
    Without such a place, and on Milvus Lite, ranges are only ever patched.
    Raises MilvusError, and ConfigurationError for an impossible index or too many ranges.
    """
    begun = time.monotonic()
    with failures_told(address):
        done = follow(lake, settings, address, progress, settings.load.staging or staging)
    done.seconds = round(time.monotonic() - begun, 3)
    return done


def follow(
    lake: Lake, settings: Settings, address: MilvusAddress, progress: Progress, staging: Path | str | None
) -> Loaded:
    """Compare, act, publish, tidy up."""
    alias = settings.milvus.collection
    client = connect(address)
    version = lake.tables.version(EMBEDDINGS)
    desired = rows_by(lake.tables.read(EMBEDDINGS, version), F.col("partition"))
    if not address.is_lite:
        limit = settings.milvus.max_partitions or partition_limit(server_version(client))
        check_limit(desired, limit, lake.granularity)
    owner = Owner(lake.lake_id, lake.model.id, lake.chunking.id, lake.model.dimension)
    largest = max(desired.values(), default=0)
    collection, index = open_collection(client, alias, owner, settings.index, settings.explicit, largest)

    there = partitions.present_generations(client, collection)
    published = read_routes(client, alias)
    routes = usable(published, Routes(collection, owner.lake_id, owner.model_id, lake.model.name, index), there)
    partitions.load(client, collection, routes.live)

    staged = None if staging is None or address.is_lite else staging_for(str(staging), collection)
    changes = embedding_changes(lake.tables, routes.version, version)
    mirror = Mirror(lake, settings, address, client, collection, staged, version, desired, changes)
    present = present_rows(mirror, routes)
    actions = reconcile_ranges(
        desired, present, changes and changes.by_range, settings.load if staged else only_patches()
    )
    abandoned = set(there) - set(routes.live)
    history: list[PartitionRow] = []
    if abandoned or any(action.way != "patch" or action.range not in present for action in actions):
        history = repaired_history(lake, routes)
    partitions.retire(client, collection, abandoned)
    work = Work(routes, present, last_generations(there, history))
    with progress.task("load", "rows", sum(mirror.rows_to_write(action) for action in actions)) as advance:
        carry_out(mirror, work, actions, advance)
    settle(mirror, work, actions, progress)
    work.done.removed += removed_rows(mirror, work, actions)

    work.routes = replace(work.routes, version=version)
    if work.routes != published:
        publish(client, alias, work.routes)
    if work.replaced:
        time.sleep(partitions.DRAIN_SECONDS)
        partitions.retire(client, collection, work.replaced)
    if work.made or work.replaced:
        write_rows(lake.tables, corrections(history, work.routes.generations, work.made, collection))
    log_builds(builds(mirror, work), settings.mlflow, lake.tables.path)
    return work.done


def usable(published: Routes | None, fresh: Routes, there: Iterable[Generation]) -> Routes:
    """The published routes as far as they hold: for this collection, and partitions that are there."""
    if published is None or (published.collection, published.lake_id) != (fresh.collection, fresh.lake_id):
        return fresh
    live = {generation.range: generation.generation for generation in set(published.live) & set(there)}
    return replace(published, index=fresh.index, generations=live)


def repaired_history(lake: Lake, routes: Routes) -> list[PartitionRow]:
    """`partitions`, after what a crash kept from being written there was written."""
    known = known_rows(lake.tables, routes.collection)
    missing = corrections(known, routes.generations, [], routes.collection)
    write_rows(lake.tables, missing)
    return with_rows(known, missing)


def only_patches() -> Load:
    return Load(build_rows=sys.maxsize)  # pyright: ignore[reportCallIssue]


def last_generations(there: Iterable[Generation], history: Iterable[PartitionRow]) -> dict[str, int]:
    """The highest generation of each range that ever was: a name is never used twice."""
    last: dict[str, int] = {}
    for each in [*there, *history]:
        last[each.range] = max(last.get(each.range, 0), each.generation)
    return last


def rows_by(rows: DataFrame, range_name: Column) -> dict[str, int]:
    return {row["range"]: row["count"] for row in rows.groupBy(range_name.alias("range")).count().collect()}


def present_rows(mirror: Mirror, routes: Routes) -> dict[str, int]:
    """Rows that Milvus has, by range; where nothing changed, really as many as it says."""
    changed = mirror.changes.by_range if mirror.changes else {}
    rows = partitions.counts_when_answering(mirror.client, mirror.collection, routes.live, "Bounded")
    doubtful = [
        generation
        for generation, count in rows.items()
        if generation.range not in changed and count != mirror.desired.get(generation.range, 0)
    ]
    rows |= partitions.counts_when_answering(mirror.client, mirror.collection, doubtful)
    return {generation.range: count for generation, count in rows.items()}


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
        made_row(mirror, work, generation, tasks.get(generation), seconds) for generation in generations.values()
    ]
    kept = {name: number for name, number in live.items() if name not in dropped}
    work.routes = replace(work.routes, generations=kept | {name: each.generation for name, each in generations.items()})
    leaving = leaving_keys(mirror, work, [action for action in patched if action.range not in generations])
    if leaving and generations:
        # Moved passages must be found in their new range before they leave the old one.
        publish(mirror.client, mirror.settings.milvus.collection, work.routes)
    for name, keys in leaving.items():
        delete(mirror.client, mirror.collection, work.routes.partition(name), keys)
    work.done.built += built
    work.done.patched += [action.range for action in patched]
    work.done.loaded += sum(loaded_rows(mirror, work, action) for action in actions)


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


def snapshot(mirror: Mirror, ranges: list[str]) -> DataFrame:
    return mirror.lake.tables.read(EMBEDDINGS, mirror.version).where(F.col("partition").isin(ranges))


def wait_until_seen(mirror: Mirror, expected: Mapping[Generation, int]) -> None:
    """Wait for the rows of new generations, which nobody else writes."""
    differing = partitions.wait_for_rows(mirror.client, mirror.collection, expected, SEEN_NEW_SECONDS)
    for generation, rows in differing.items():
        raise MilvusError(
            f"The new partition {generation.partition} of {mirror.collection} shows {rows:,} rows, but "
            f"{expected[generation]:,} were written. Nothing that is live was touched; run again, and see the "
            "server's log if it stays so."
        )


def leaving_keys(mirror: Mirror, work: Work, actions: list[RangeAction]) -> dict[str, list[str]]:
    """Keys to delete from live generations, by range.

    Where a range was written whole, these are the keys that the lake does not have; they count as
    removed.
    """
    leaving: dict[str, list[str]] = {}
    for action in actions:
        if action.whole:
            generation = Generation(action.range, work.routes.generations[action.range])
            wanted = {row["chunk_id"] for row in snapshot(mirror, [action.range]).select("chunk_id").collect()}
            present = partitions.keys(mirror.client, mirror.collection, generation)
            leaving[action.range] = [key for key in present if key not in wanted]
            if action.range not in mirror.deletes:
                work.done.removed += len(leaving[action.range])
    partly = [action.range for action in actions if not action.whole and action.range in mirror.deletes]
    if partly and mirror.changes and mirror.changes.rows is not None:
        for row in departures(mirror.changes.rows).where(F.col("range").isin(partly)).collect():
            leaving.setdefault(row["range"], []).append(row["chunk_id"])
    return {name: keys for name, keys in leaving.items() if keys}


def settle(mirror: Mirror, work: Work, actions: list[RangeAction], progress: Progress) -> None:
    """Wait until the patched ranges show the rows that they should; write those anew that do not."""
    differing = unsettled(mirror, work, [action.range for action in actions if action.way == "patch"])
    if not differing:
        return
    # Milvus did not hold what its routes promised.
    progress.log("load.repaired", **{name: f"{rows} rows" for name, rows in differing.items()})
    counted = work.done.loaded, [*work.done.patched]
    carry_out(mirror, work, [RangeAction(name, "patch", whole=True) for name in differing], lambda _: None)
    # The rows and ranges are counted already.
    work.done.loaded, work.done.patched = counted
    differing = unsettled(mirror, work, list(differing))
    for name, rows in differing.items():
        raise MilvusError(
            f"Time range {name} of {mirror.collection} shows {rows:,} rows in Milvus, but `embeddings` has "
            f"{mirror.desired[name]:,}, after all were written anew. See the server's log; dropping the collection "
            "makes the next load fill it from nothing."
        )


def unsettled(mirror: Mirror, work: Work, ranges: list[str]) -> dict[str, int]:
    expected = {Generation(name, work.routes.generations[name]): mirror.desired[name] for name in ranges}
    found = partitions.wait_for_rows(mirror.client, mirror.collection, expected, SEEN_SECONDS)
    return {generation.range: rows for generation, rows in found.items()}


def loaded_rows(mirror: Mirror, work: Work, action: RangeAction) -> int:
    """How many rows of a range count as loaded: those that changed, or all where Milvus did not have them."""
    if action.whole and not (action.way == "build" and action.range in mirror.upserts and action.range in work.present):
        return mirror.rows_to_write(action)
    return mirror.upserts.get(action.range, 0)


def removed_rows(mirror: Mirror, work: Work, actions: list[RangeAction]) -> int:
    """Rows that the feed says were there and are gone, and those of ranges that differed without a change."""
    changed = mirror.changes.by_range if mirror.changes else {}
    surplus = sum(
        max(0, work.present.get(action.range, 0) - mirror.desired.get(action.range, 0))
        for action in actions
        if action.way != "patch" and action.range not in changed
    )
    return surplus + (mirror.changes.removed if mirror.changes else 0)


def made_row(
    mirror: Mirror, work: Work, generation: Generation, tasks: list[int] | None, seconds: float
) -> PartitionRow:
    index = work.routes.index
    return PartitionRow(
        collection=mirror.collection,
        range=generation.range,
        generation=generation.generation,
        way="patch" if tasks is None else "build",
        rows=mirror.desired[generation.range],
        version=mirror.version,
        index_type=index.type,
        index_build=json.dumps(index.build, sort_keys=True),
        import_tasks=None if tasks is None else tuple(tasks),
        seconds=seconds,
        at=datetime.now(UTC),
    )


def builds(mirror: Mirror, work: Work) -> list[Build]:
    """This load's builds as MLflow shall know them."""
    tables = mirror.lake.tables
    params = {
        "collection": mirror.collection,
        "index_type": work.routes.index.type,
        **{f"index_{name}": value for name, value in work.routes.index.build.items()},
        "model_id": mirror.lake.model.id,
        "table": f"{tables.catalog_schema}.embeddings" if tables.catalog_schema else f"{tables.path}/embeddings",
        "version": mirror.version,
    }
    return [
        Build(row.range, row.generation, params, row.rows or 0, row.seconds or 0.0)
        for row in work.made
        if row.way == "build"
    ]
