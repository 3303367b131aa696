"""`lakevec tune --apply`: the live index made anew as the sweep chose, proved on what readers search, or undone.

A collection has one index for all its ranges, so they are built into another collection while readers
search the old one. One switch of the routes brings them over. Then recall is measured again, and where
the promise is missed the old routes are published again; until that is known the old collection stays.
Where the index is as it was and only its search parameters are others, recall is measured before the switch.
The live collection holds the passages that the sweep held out: a passage is never its own answer, but a
graph leads to its neighbours by its own edges, so that recall is flattered there, and the sweep's counts.
An error or Ctrl-C before the proof ends in the same way; after a kill the next load takes back what was
not proved. What is left over the next sweep drops.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from pymilvus import MilvusClient, MilvusException

from .fill import build_ranges, patch_ranges, wait_until_seen
from .generations import made_row
from .lake.history import PartitionRow, corrections, known_rows, write_rows
from .lake.lake import Lake
from .load import load
from .mirror import Mirror, lake_rows
from .progress import Progress
from .settings import Settings
from .tuning.choice import TOO_FEW, Candidate, Promise
from .tuning.grid import Setting
from .tuning.measure import CLIENTS, WARM_UP, Judged, answerable, measure
from .tuning.query_sets import QuerySet
from .tuning.sweep import searching
from .tuning.truth import exact
from .vectors import partitions, segments, shadow
from .vectors.build import staging_for
from .vectors.collection import Owner, point_alias
from .vectors.connection import MilvusAddress, connect, server_version
from .vectors.index import VectorIndex, widened
from .vectors.partitions import Generation
from .vectors.plan import RangeAction, partition_limit, waves
from .vectors.routes import Routes, publish, read_routes
from .vectors.successor import drop_unrouted, make_successor
from .vectors.weight import Scales, scales_for

INDEXED_SECONDS = 120.0


@dataclass(frozen=True)
class ApplyReport:
    """applied: whether readers search the chosen index now; why. What was measured on the live collection; None where
    nothing was."""

    applied: bool
    why: str
    seconds: float = 0.0
    collection: str | None = None
    recall_at_10: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p99_ms: float | None = None
    qps: float | None = None
    memory_bytes: int | None = None


def apply(
    lake: Lake,
    settings: Settings,
    address: MilvusAddress,
    chosen: Candidate,
    promise: Promise,
    queries: Sequence[QuerySet],
    seed: int,
    staging: Path | str | None,
    progress: Progress,
) -> ApplyReport:
    """Make the live index as `chosen`. The caller holds the locks of `load` and `tune`.

    staging: where the server reads import files, if load.staging is unset. queries: the sweep's. What this
    raises leaves the old index live, or makes it so again.
    """
    begun = time.monotonic()
    # First of all equal to the lake: what is built anew is built from the newest version.
    load(lake, settings, address, progress, staging)
    client, alias = connect(address), settings.milvus.collection
    old = read_routes(client, alias)
    assert old, "a load publishes routes"
    owner = Owner(lake.lake_id, lake.model.id, lake.chunking.id, lake.model.dimension)
    drop_unrouted(client, alias, owner)
    index = VectorIndex(chosen.setting.type, dict(chosen.setting.build), dict(chosen.setting.search))
    sets = [answerable(each, exact(lake, old.version, each).neighbours) for each in queries]
    try:
        if (old.index.type, old.index.build) == (index.type, index.build):
            new, made = replace(old, index=index), []
        else:
            place = settings.load.staging or staging
            new, made = built(lake, settings, address, client, owner, old, index, place, progress)
        scales = scales_for(settings, client, new.collection, lake.model.dimension)
        bare, memory = wait_until_served(client, new, chosen.build_seconds, scales)
        warm_up(client, new, sets[0])

        def switch() -> None:
            publish(client, alias, new)
            progress.log("tune.switched", collection=new.collection, index=chosen.setting.name)

        # Other search parameters alone can be proved before a reader has them.
        is_other = new.collection != old.collection
        if is_other:
            switch()
        proved, why = prove(client, new, chosen, promise, sets, seed, bare, memory)
        if why is None:
            if not is_other:
                switch()
            point_alias(client, alias, new.collection)
    except BaseException:
        # The error is the one to tell; where Milvus is away, the next load takes back what is not proved.
        with suppress(MilvusException, grpc.RpcError):
            take_back(client, alias, old, owner)
            progress.log("tune.taken_back", reason="it was not proved")
        raise
    if why is not None:
        take_back(client, alias, old, owner)
        progress.log("tune.taken_back", reason=why)
    else:
        settle_history(lake, old, new, made)
        drop_drained(client, alias, owner)
    return ApplyReport(
        why is None,
        f"{why}; the index before it is live again" if why else f"measured on the live collection, it keeps {promise}",
        round(time.monotonic() - begun, 3),
        (old if why else new).collection,
        proved.recall.mean,
        proved.recall.low,
        proved.recall.high,
        proved.p99_ms,
        proved.qps,
        proved.memory,
    )


def not_applied(why: str) -> ApplyReport:
    """Where nothing was live that could be measured: why."""
    return ApplyReport(False, f"{why} Nothing was applied.")


def take_back(client: MilvusClient, alias: str, old: Routes, owner: Owner) -> None:
    """What was live is live again, whatever was switched; the new collection is dropped."""
    if read_routes(client, alias) != old:
        publish(client, alias, old)
    point_alias(client, alias, old.collection)
    drop_drained(client, alias, owner)


def drop_drained(client: MilvusClient, alias: str, owner: Owner) -> None:
    """Drop the collection that is not live, once readers that have just read the routes are not within it."""
    time.sleep(partitions.DRAIN_SECONDS)
    drop_unrouted(client, alias, owner)


def built(
    lake: Lake,
    settings: Settings,
    address: MilvusAddress,
    client: MilvusClient,
    owner: Owner,
    old: Routes,
    index: VectorIndex,
    staging: Path | str | None,
    progress: Progress,
) -> tuple[Routes, list[PartitionRow]]:
    """The routes of another collection with this index and all rows, which nobody reads yet; how it was built."""
    name = make_successor(client, settings.milvus.collection, old.collection, owner, index)
    desired = lake_rows(lake, old.version)
    limit = settings.milvus.max_partitions or partition_limit(server_version(client))
    staged = None if staging is None else staging_for(str(staging), name)
    mirror = Mirror(lake, settings, address, client, name, staged, limit, old.version, desired, None)
    made: list[PartitionRow] = []
    with progress.task("apply", "rows", sum(desired.values())) as advance:
        for wave in waves(desired, (), len(desired), settings.load.wave_rows):
            begun = time.monotonic()
            generations = {each: Generation(each, 1) for each in wave}
            if staged:
                tasks = build_ranges(mirror, generations, advance)
            else:
                tasks = {}
                partitions.create(client, name, generations.values())
                partitions.load(client, name, generations.values())
                patch_ranges(mirror, [RangeAction(each, "patch", whole=True) for each in wave], generations, advance)
            wait_until_seen(mirror, {each: desired[each.range] for each in generations.values()})
            seconds = round(time.monotonic() - begun, 3)
            made += [made_row(mirror, index, each, tasks.get(each), seconds) for each in generations.values()]
    return replace(old, collection=name, index=index, generations=dict.fromkeys(desired, 1)), made


def wait_until_served(client: MilvusClient, routes: Routes, build_seconds: float, scales: Scales) -> tuple[float, int]:
    """Return when readers are served from the index: the share of rows that are in segments too small for one, and the
    bytes of memory that all take.

    build_seconds: that the index took on the shadow. Raises BuildFailed or BuildStalled where that does not come.
    """
    # What still grows has no index, nor a segment that is listed.
    client.flush(routes.collection)
    shadow.wait_until_built(client, routes.collection, build_seconds)
    total = sum(partitions.counts_when_answering(client, routes.collection, routes.live).values())
    found, wrong = segments.wait_until_indexed(
        client, routes.collection, total, routes.index.type, max(INDEXED_SECONDS, build_seconds), with_deleted=True
    )
    if wrong:
        raise shadow.BuildFailed(f"Its index is not what readers would be served from: {wrong}.")
    bare = min(1.0, sum(each.rows for each in found if not each.is_indexed) / max(1, total))
    return bare, scales.weigh(routes.index, found).memory_bytes


def warm_up(client: MilvusClient, routes: Routes, judged: Judged) -> None:
    """The first searches read the index from disk: not those of a reader."""
    search = searching(client, routes.collection, routes.live)
    for vector in judged.queries.vectors[:WARM_UP]:
        search([vector.tolist()], 10, widened(dict(routes.index.search), 10))


def prove(
    client: MilvusClient,
    routes: Routes,
    chosen: Candidate,
    promise: Promise,
    sets: Sequence[Judged],
    seed: int,
    bare: float,
    memory: int,
) -> tuple[Candidate, str | None]:
    """What the live collection gives, and what of the promise it misses; None where it keeps it.

    bare: the share of its rows in segments too small for an index. memory: bytes that it takes.
    """
    setting = Setting(routes.index.type, routes.index.build, routes.index.search)
    measured = measure(searching(client, routes.collection, routes.live), setting, sets, seed, bare)
    deciding = measured.deciding
    proved = replace(chosen, recall=deciding, p99_ms=measured.p99_ms, qps=measured.qps[CLIENTS], memory=memory)
    if measured.wrong:
        return proved, measured.wrong
    if deciding.few:
        return proved, TOO_FEW
    if not proved.keeps(promise):
        return proved, (
            f"measured on the live collection, it misses {promise}: recall@10 {deciding.mean:.4f} (from "
            f"{deciding.low:.4f}), 99 of 100 searches within {proved.p99_ms:.1f} ms, {proved.memory:,} bytes"
        )
    return proved, None


def settle_history(lake: Lake, old: Routes, new: Routes, made: list[PartitionRow]) -> None:
    """`partitions` as the routes are now: the new collection's ranges live, the old one's retired."""
    if old.collection == new.collection:
        return
    for routes, live, new_rows in ((old, {}, []), (new, new.generations, made)):
        known = known_rows(lake.tables, routes.collection)
        write_rows(lake.tables, corrections(known, live, new_rows, routes.collection), known)
