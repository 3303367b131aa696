"""`embeddings` -> Milvus: patch the ranges where little changed, build those where much did, publish the routes.

Milvus itself holds the version of `embeddings` that it mirrors, in its routes: a load works off the
change feed from there and needs no checkpoint. Whatever a crash leaves, the next load finds: rows
written since are written again under their keys, partitions that no route names are dropped.
"""

import contextlib
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pyspark.sql import DataFrame

from .carry_out import Work, carry_out, drop_replaced
from .errors import LakeBusyError
from .generations import builds, last_generations, repaired_history
from .lake.feed import EmbeddingChanges, embedding_changes
from .lake.freshness import RunMetrics
from .lake.history import corrections, write_rows
from .lake.lake import Lake
from .lake.lock import TUNE, locked
from .lake.tables import EMBEDDINGS, upkeep
from .mirror import Mirror, foretold_rows, has_same_past, lake_rows, present_rows
from .progress import Progress
from .settings import Settings
from .settle import settle
from .tally import Loaded, removed_rows
from .tuning.build_run import log_builds
from .tuning.champion import index_settings, searched_as_before
from .vectors import partitions
from .vectors.build import staging_for
from .vectors.collection import Owner, open_collection
from .vectors.connection import MilvusAddress, connect, server_version
from .vectors.failures import failures_told
from .vectors.partitions import Generation
from .vectors.plan import RangeAction, check_limit, partition_limit, reconcile_ranges
from .vectors.routes import Routes, publish
from .vectors.successor import proved_routes


def load(
    lake: Lake,
    settings: Settings,
    address: MilvusAddress,
    progress: Progress,
    staging: Path | str | None = None,
    metrics: RunMetrics | None = None,
    anew: Collection[str] = (),
) -> Loaded:
    """Make Milvus hold exactly what `embeddings` holds, once each, where readers see it.

    staging: where import files are written and the server reads them, if load.staging is unset.
    Without such a place, and on Milvus Lite, ranges are only ever patched.
    anew: time ranges to make anew from all their rows, whatever Milvus holds.
    metrics: told which rows became searchable.
    Raises MilvusError, and ConfigurationError for an impossible index or too many ranges.
    """
    begun = time.monotonic()
    with failures_told(address):
        done = follow(lake, settings, address, progress, settings.load.staging or staging, metrics, anew)
    done.seconds = round(time.monotonic() - begun, 3)
    return done


def follow(
    lake: Lake,
    settings: Settings,
    address: MilvusAddress,
    progress: Progress,
    staging: Path | str | None,
    metrics: RunMetrics | None,
    anew: Collection[str],
) -> Loaded:
    """Compare, act, publish, tidy up."""
    alias = settings.milvus.collection
    client = connect(address)
    version = lake.tables.version(EMBEDDINGS)
    published = proved_routes(client, alias, lake.lake_id)
    followed = published if published and published.lake_id == lake.lake_id else None
    changes = changes_since(followed, lake, version)
    foretold = foretold_rows(followed, changes)
    desired = lake_rows(lake, version) if foretold is None else foretold
    limit = sys.maxsize
    if not address.is_lite:
        limit = settings.milvus.max_partitions or partition_limit(server_version(client))
        check_limit(desired, limit, lake.granularity)
    owner = Owner(lake.lake_id, lake.model.id, lake.chunking.id, lake.model.dimension)
    largest = max(desired.values(), default=0)
    is_lost = followed is not None and not client.has_collection(followed.collection)
    wanted = index_settings(settings, lake, followed, is_lost)
    collection, index = open_collection(client, alias, owner, wanted, settings.explicit, largest)
    if followed and followed.collection == collection:
        index = searched_as_before(index, followed.index, settings)

    there = partitions.present_generations(client, collection)
    fresh = Routes(collection, owner.lake_id, owner.model_id, lake.model.name, index)
    routes = usable(followed, fresh, there)
    partitions.load(client, collection, routes.live)

    staged = None if staging is None or address.is_lite else staging_for(str(staging), collection)
    known = changes if routes.version >= 0 else None
    mirror = Mirror(lake, settings, address, client, collection, staged, limit, version, desired, known)
    present = present_rows(mirror, routes)
    actions = decide(mirror, present, anew)
    if foretold is not None and any(action.whole or action.way == "drop" for action in actions):
        # Whole ranges are written, and dropped, by the table itself.
        mirror = replace(mirror, desired=lake_rows(lake, version))
        check_limit(mirror.desired, limit, lake.granularity)
        actions = decide(mirror, present, anew)
    abandoned = set(there) - set(routes.live)
    changes_generations = bool(abandoned) or any(
        action.way != "patch" or action.range not in present for action in actions
    )
    history = repaired_history(lake, routes) if changes_generations else []
    partitions.retire(client, collection, abandoned)
    work = Work(routes, present, last_generations(there, history))
    with progress.task("load", "rows", sum(mirror.rows_to_write(action) for action in actions)) as advance:
        carry_out(mirror, work, actions, advance)
    mirror = settle(mirror, work, actions, progress)
    work.done.removed += removed_rows(mirror, present, actions)

    commit = lake.tables.commit(EMBEDDINGS, version)
    work.routes = replace(work.routes, version=version, commit=commit, rows=mirror.desired)
    if work.routes != published:
        publish(client, alias, work.routes)
    if metrics and not (changes and changes.rows is None):
        metrics.searchable(changed_rows(mirror))
    drop_replaced(mirror, work)
    if changes_generations:
        rows = corrections(history, work.routes.generations, work.made, collection)
        write_rows(lake.tables, rows, history)
    log_builds(builds(mirror, work.routes.index, work.made), settings.mlflow, lake.tables.path)
    shorten_log(lake, settings, version)
    return work.done


def shorten_log(lake: Lake, settings: Settings, version: int) -> None:
    """Cut the log of `embeddings` where it is long: no other stage reads its past, and the next load begins with the
    version that the routes have now. A sweep goes on to read the version that it began with: after it, then."""
    # What was loaded does not depend on it.
    with upkeep(EMBEDDINGS), contextlib.suppress(LakeBusyError):
        if lake.tables.has_long_log(EMBEDDINGS, version):
            with locked(settings, "load", [TUNE]):
                lake.tables.shorten_log(EMBEDDINGS, version)


def changes_since(routes: Routes | None, lake: Lake, version: int) -> EmbeddingChanges | None:
    """What happened to `embeddings` since the routes; None where that is not known, or the lake has another past."""
    if routes is None or not has_same_past(lake, routes):
        return None
    return embedding_changes(lake.tables, routes.version, version)


def decide(mirror: Mirror, present: Mapping[str, int], anew: Collection[str]) -> list[RangeAction]:
    changed = mirror.changes.by_range if mirror.changes else None
    load_settings = mirror.settings.load if mirror.staging else None
    return reconcile_ranges(mirror.desired, present, changed, load_settings, anew)


def changed_rows(mirror: Mirror) -> DataFrame | None:
    """The rows that this load made searchable, as far as it knows; None: whatever it found."""
    return mirror.changes.rows.where("not deleted") if mirror.changes and mirror.changes.rows is not None else None


def usable(published: Routes | None, fresh: Routes, there: Iterable[Generation]) -> Routes:
    """The published routes as far as they hold: for this collection, and partitions that are there."""
    if published is None or published.collection != fresh.collection:
        return fresh
    live = {generation.range: generation.generation for generation in set(published.live) & set(there)}
    return replace(published, index=fresh.index, generations=live)
