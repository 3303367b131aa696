"""Whether the promise holds: Milvus holds what `embeddings` holds, once each, and the lake agrees with itself.

It asks the store itself, never a ledger, and with `repair` mends what it finds from Delta alone.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from py4j.protocol import Py4JJavaError
from pymilvus import MilvusClient, MilvusException
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .comparison import DIFFERENT, DOUBLED, EXTRA, KINDS, MISSING, Comparison, compare, mirrored
from .embed import fields_of
from .errors import ConfigurationError, MilvusError
from .lake.faults import FAULTS, faults, snapshots
from .lake.lake import Lake, open_lake
from .lake.lock import STAGES, locked
from .lake.session import materialised, spark_session
from .lake.stream import next_version, was_cut_off
from .lake.tables import CHUNKS, DOCUMENTS, EMBEDDINGS, FILES
from .lake.waiting import changed_keys, waiting_keys
from .mirror import has_same_past
from .progress import Progress
from .repair import mend
from .settings import Settings
from .vectors.connection import MilvusAddress, connect, milvus_for
from .vectors.failures import failures_told
from .vectors.routes import Routes, read_routes

EXAMPLES = 5
# What wrong rows are mended in: the lake; ranges whole; rows; what hid behind them.
MOST_REPAIRS = 4
# A run in between changes what is compared: look again.
MOST_LOOKS = 3
COMPARED = (FILES, DOCUMENTS, CHUNKS, EMBEDDINGS)
# The stages between tables: what each follows, and what it makes of it.
FOLLOWING = (("chunk", DOCUMENTS, CHUNKS), ("embed", CHUNKS, EMBEDDINGS))
# What an ingest that was cut off leaves, and the next one mends.
OF_INGEST = ("documents_without_file", "files_with_other_documents")


@dataclass(frozen=True)
class VerifyReport:
    """What is wrong, after the repair if there was one.

    ok: nothing is wrong, nor was there anything that could not be mended here. current: nothing waits for a
    stage either, so that Milvus holds what the files held when they were listed last. moved: a run was writing
    all the while, so that what is wrong may be seen wrongly.
    missing: rows of `embeddings` that readers of Milvus do not find in their range. extra: rows of Milvus
    whose key the lake does not have, or not in this range only. doubled: rows beyond the first of a key.
    different: rows of the sample with other fields or another vector. None of them is one that waits for `load`, by
    `behind`. partitions: range -> these numbers, lake_rows and milvus_rows. lake: faults inside the lake, by
    name (lake/faults.py). behind: keys that wait for a stage, or changed meanwhile, which is no fault, unless they
    wait for `load` and there is no index of this lake, or no feed of them; while an ingest is at work, or was cut off,
    whether `files` and `documents` agree is told here as well.
    left_over: partitions of Milvus that no reader is led to and the next load drops, which is no fault either.
    examples: some keys by kind and by fault. repaired: what was done, in rows. advice: what to run for
    what could not be mended. sampled: rows that were compared whole.
    """

    ok: bool
    current: bool
    moved: bool
    missing: int
    extra: int
    doubled: int
    different: int
    sampled: int
    partitions: dict[str, dict[str, int]]
    lake: dict[str, int]
    behind: dict[str, int]
    left_over: list[str]
    examples: dict[str, list[str]]
    repaired: dict[str, int]
    advice: list[str]
    seconds: float


@dataclass(frozen=True)
class Finding:
    """One look at lake and Milvus. faults: (fault, key); lake: their numbers. comparison: against Milvus.
    is_loaded: the routes say that Milvus holds this version."""

    routes: Routes | None
    version: int
    faults: DataFrame
    lake: Mapping[str, int]
    behind: Mapping[str, int]
    comparison: Comparison
    readable: frozenset[str]
    left_over: Sequence[str]
    is_loaded: bool
    moved: bool = False

    @property
    def ok(self) -> bool:
        return not self.lake and not self.comparison.numbers and self.comparison.has_equal_counts

    @property
    def needs_load(self) -> bool:
        """Whether whole ranges, or changes that wait, are the way to mend Milvus."""
        if self.routes is None or not self.is_loaded:
            return True
        return not set(self.comparison.lake_rows) == set(self.routes.generations) == self.readable


def verify(
    settings: Settings, repair: bool = False, sample: int = 1000, progress: Progress | None = None
) -> VerifyReport:
    """Compare files, documents, chunks, embeddings and Milvus; with `repair`, mend from Delta alone.

    sample: rows whose fields and vectors are compared too, over all ranges; 0 for none.
    Raises LakevecError: ConfigurationError, MilvusError, and LakeBusyError where a run would be repaired under.
    """
    if sample < 0:
        raise ConfigurationError(f"--sample is {sample}; 0 is the least.")
    begun = time.monotonic()
    progress = progress or Progress()
    repaired: Counter[str] = Counter()
    advice: list[str] = []
    with ExitStack() as stack:
        if repair:
            stack.enter_context(locked(settings, "verify --repair"))
        lake = open_lake(spark_session(settings.spark), settings, held=STAGES if repair else ())
        address = stack.enter_context(milvus_for(settings))
        client = connect(address)
        with failures_told(address):
            found = settled(lake, settings, client, address, sample)
            for _ in range(MOST_REPAIRS if repair else 0):
                if found.ok and not found.left_over:
                    break
                tell(progress, found)
                mended = mend(lake, settings, client, address, progress, found)
                repaired.update(mended.rows)
                advice += [line for line in mended.advice if line not in advice]
                found = settled(lake, settings, client, address, sample)
                if not mended.rows:
                    break
        return report(found, repaired, advice, time.monotonic() - begun)


def settled(lake: Lake, settings: Settings, client: MilvusClient, address: MilvusAddress, sample: int) -> Finding:
    """A look that nothing moved under, if that can be had."""
    looks = 1
    while True:
        before = moment(lake, settings, client)
        try:
            found = look(lake, settings, client, address, sample)
        except (MilvusError, MilvusException, PySparkException, Py4JJavaError):
            # A range that was built meanwhile: the partition that was asked is gone. Or a version that was read.
            if looks == MOST_LOOKS or moment(lake, settings, client) == before:
                raise
        else:
            found = replace(found, moved=not found.ok and moment(lake, settings, client) != before)
            if looks == MOST_LOOKS or not found.moved:
                return found
        looks += 1


def moment(lake: Lake, settings: Settings, client: MilvusClient) -> tuple:
    """What changes when a run writes."""
    versions = [lake.tables.version(table) for table in COMPARED]
    return *versions, read_routes(client, settings.milvus.collection)


def look(lake: Lake, settings: Settings, client: MilvusClient, address: MilvusAddress, sample: int) -> Finding:
    routes = own_routes(client, settings.milvus.collection, lake)
    version = lake.tables.version(EMBEDDINGS)
    milvus = mirrored(client, address, routes)
    loaded = routes.version if routes and has_same_past(lake, routes) else -1
    # An index that is not there, or is of another past, does not merely wait; nor do rows of which no feed tells.
    unloaded = changed_keys(lake.tables, EMBEDDINGS, loaded + 1, version) if 0 <= loaded < version else None
    comparison = compare(lake, version, milvus, sample, unloaded, partial(changed_since, lake, version))
    since = {stage: next_version(lake.tables, table, lake.checkpoint(stage)) for stage, table, _ in FOLLOWING}
    is_ingesting = was_cut_off(lake.checkpoint("ingest"))
    rows = snapshots(lake.tables)
    # What a stage works off while this is read waits as well.
    waiting = {
        stage: keys
        for stage, table, child in FOLLOWING
        if (keys := waiting_keys(lake.tables, table, since[stage], child)) is not None
    }
    fields = fields_of(rows[CHUNKS], lake.model.id, lake.granularity)
    found = materialised(faults(rows, fields, waiting))
    behind = {stage: keys.count() for stage, keys in waiting.items()}
    if is_ingesting or was_cut_off(lake.checkpoint("ingest")):
        behind["ingest"] = found.where(F.col("fault").isin(*OF_INGEST)).count()
        found = found.where(~F.col("fault").isin(*OF_INGEST))
    if loaded < version:
        behind["load"] = sum(comparison.lake_rows.values()) if unloaded is None else unloaded.count()
    # Nobody has looked whether those are loaded.
    behind["load"] = behind.get("load", 0) + comparison.changed
    return Finding(
        routes,
        version,
        found,
        {row["fault"]: row["count"] for row in found.groupBy("fault").count().collect()},
        {stage: rows for stage, rows in behind.items() if rows},
        comparison,
        frozenset(milvus.readable if milvus else ()),
        milvus.left_over if milvus else (),
        is_loaded=loaded == version,
    )


def changed_since(lake: Lake, version: int) -> DataFrame | None:
    """(chunk_id) of rows of `embeddings` that changed after this version; None where none did."""
    newest = lake.tables.version(EMBEDDINGS)
    return changed_keys(lake.tables, EMBEDDINGS, version + 1, newest) if newest > version else None


def own_routes(client: MilvusClient, alias: str, lake: Lake) -> Routes | None:
    routes = read_routes(client, alias)
    if routes and routes.lake_id != lake.lake_id:
        raise MilvusError(
            f"The collection {alias} in Milvus belongs to another lake ({routes.lake_id}, this is {lake.lake_id}). "
            "See lake.path and milvus.collection."
        )
    return routes


def tell(progress: Progress, found: Finding) -> None:
    wrong: Counter[str] = Counter()
    for (_, kind), rows in found.comparison.numbers.items():
        wrong[kind] += rows
    progress.log("verify.repairing", **wrong, **found.lake)


def report(found: Finding, repaired: Mapping[str, int], advice: list[str], seconds: float) -> VerifyReport:
    comparison = found.comparison
    names = {*comparison.lake_rows, *comparison.milvus_rows, *(name for name, _ in comparison.numbers)}
    by_range = {
        name: {
            **{kind: comparison.numbers.get((name, kind), 0) for kind in KINDS},
            "lake_rows": comparison.lake_rows.get(name, 0),
            "milvus_rows": comparison.milvus_rows.get(name, 0),
        }
        for name in sorted(names)
    }
    total = {kind: sum(numbers[kind] for numbers in by_range.values()) for kind in KINDS}
    is_ok = found.ok and not advice
    return VerifyReport(
        ok=is_ok,
        current=is_ok and not found.behind,
        moved=found.moved,
        missing=total[MISSING],
        extra=total[EXTRA],
        doubled=total[DOUBLED],
        different=total[DIFFERENT],
        sampled=comparison.sampled,
        partitions=by_range,
        lake={fault: found.lake.get(fault, 0) for fault in FAULTS},
        behind=dict(found.behind),
        left_over=list(found.left_over),
        examples=examples(found, total),
        repaired=dict(repaired),
        advice=advice,
        seconds=round(seconds, 3),
    )


def examples(found: Finding, total: Mapping[str, Any]) -> dict[str, list[str]]:
    """A few keys of each kind of wrong rows, and of each fault."""
    wrong = found.comparison.wrong.where("rows > 0")
    rows = {kind: wrong.where(F.col("kind") == kind).select("chunk_id") for kind, number in total.items() if number}
    keys = {fault: found.faults.where(F.col("fault") == fault).select("key") for fault in FAULTS if fault in found.lake}
    return {name: sorted(key for (key,) in frame.take(EXAMPLES)) for name, frame in {**rows, **keys}.items()}
