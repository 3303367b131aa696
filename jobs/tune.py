"""Which index, with which parameters, for these rows, at this recall and latency: measured, logged, chosen.

The live collection serves on meanwhile: builds happen on a shadow of it.
"""

import json
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pymilvus import MilvusClient

from ..udfs.nearest import MOST_TIES
from .apply import ApplyReport, apply, not_applied
from .credentials import without_credentials
from .errors import ConfigurationError, LakevecError
from .lake.jars import cache_folder
from .lake.lake import Lake, open_lake
from .lake.lock import TUNE, locked
from .lake.session import spark_session
from .lake.tables import EMBEDDINGS
from .progress import Progress
from .run import staging_for
from .settings import Settings
from .tuning.budget import Turns
from .tuning.champion import APPLIED, mark_applied
from .tuning.choice import Candidate, Choice
from .tuning.conclusion import ChampionReport, concluded
from .tuning.estimate import Estimate, search_seconds
from .tuning.grid import Grid, Ground, Setting, Skipped, check, grid
from .tuning.measure import answerable
from .tuning.quality import quality_of
from .tuning.query_sets import QuerySet, asked, held_out, sampled
from .tuning.questions import read_questions
from .tuning.shadow_rows import fill
from .tuning.store import StoreError
from .tuning.subject import Subject
from .tuning.sweep import Sweeping
from .tuning.tracking import Sweep, store_for, surroundings, sweep
from .tuning.truth import DEEPEST, exact
from .vectors import segments
from .vectors.collection import check_alias
from .vectors.connection import connect, milvus_for, server_version
from .vectors.failures import failures_told
from .vectors.index import VectorIndex, default_build
from .vectors.left_over import drop_left_over
from .vectors.shadow import refusals, shadow
from .vectors.weight import scales_for

# Types that depend on how the server was built: it is asked.
ASKED = ("DISKANN", "SCANN")


@dataclass(frozen=True)
class TuneReport:
    """What a sweep found. runs: settings that were measured, each a run below parent_run_id. skipped: what was not
    tried or does not count, with the reason. ndcg_at_10: of exact search and of the champion, for judged questions.
    measured: all of them, the fastest first. applied: what became of --apply."""

    experiment_id: str
    parent_run_id: str
    tracking_uri: str
    runs: int
    skipped: Sequence[Skipped]
    champion: ChampionReport
    ndcg_at_10: Mapping[str, float] | None
    measured: Sequence[Candidate]
    applied: ApplyReport | None = None


def tune(
    settings: Settings,
    questions: str | None = None,
    minutes: float | None = None,
    seed: int = 0,
    applying: bool = False,
    progress: Progress | None = None,
) -> TuneReport:
    """Sweep, log, choose, register; with `applying`, make the live index so.

    questions: a JSONL or a folder in BEIR's layout, measured beside sampled passages. minutes: for builds and
    searches together; unset: everything is tried. Raises LakevecError: ConfigurationError, MilvusError, and
    LakeBusyError while another sweep of this lake goes on.
    """
    progress = progress or Progress()
    refuse_lite(settings)
    if applying:
        refuse_explicit(settings)
        # To know it before the sweep, and not after it.
        with locked(settings, "tune --apply", ["load"]):
            pass
    check(settings.tune.grid)
    if minutes is not None and not 0 <= minutes < math.inf:
        raise ConfigurationError(f"--budget is {minutes:g}; give minutes, 0 or more, or leave it out for no limit.")
    if questions:
        # What is wrong with them is told before anything is started.
        read_questions(questions)
    with ended_by_sigterm(), locked(settings, "tune", [TUNE]):
        lake = open_lake(spark_session(settings.spark), settings)
        store = store_for(settings.mlflow, lake.tables.path)
        version = lake.tables.version(EMBEDDINGS)
        sets = [sampled(lake, version, settings.tune.queries, seed)]
        if questions:
            sets.append(asked(lake, settings, questions))
        with milvus_for(settings) as address, failures_told(address):
            client = connect(address)
            subject = Subject(lake, version, settings, address, client)
            check_alias(client, subject.alias, subject.owner)
            name, params, tags = described(lake, settings, client, version, sets, minutes, seed)
            with sweep(store, name, params, tags) as run:
                run.data(lake, version, sets)
                report, choice = swept(subject, sets, run, minutes, seed, progress)
                if applying:
                    report = replace(report, applied=applied(subject, choice, report, sets, run, seed, progress))
                return report


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: what was made is taken away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse_explicit(settings: Settings) -> None:
    given = sorted(name for name in settings.explicit if name.startswith("index."))
    if given:
        raise ConfigurationError(
            f"--apply chooses the index by what is measured, but {' and '.join(given)} is set. Leave it out: every "
            "later load would refuse the index that was chosen."
        )


def applied(
    subject: Subject,
    choice: Choice,
    report: TuneReport,
    sets: Sequence[QuerySet],
    run: Sweep,
    seed: int,
    progress: Progress,
) -> ApplyReport:
    """The choice on the live collection, if it keeps the promise; marked in the registry where it does there."""
    settings, champion = subject.settings, report.champion
    if not choice.kept:
        return not_applied(choice.why)
    try:
        with locked(settings, "tune --apply", ["load"]), failures_told(subject.address):
            done = apply(
                subject.lake, settings, subject.address, choice.candidate, subject.promise, sets, seed,
                staging_for(settings), progress,
            )  # fmt: skip
    except LakevecError as error:
        # The sweep is not lost with it.
        done = not_applied(str(error))
    measured = {
        "recall_at_10": done.recall_at_10,
        "recall_at_10_low": done.ci_low,
        "p99_ms": done.p99_ms,
        "memory_bytes": done.memory_bytes,
    }
    metrics = {f"applied_{name}": value for name, value in measured.items() if value is not None}
    try:
        run.log(run.run_id, {"applied": done.applied}, metrics)
        if done.applied:
            mark_applied(run.client, champion.registered, champion.version)
    except StoreError as error:
        if not done.applied:
            raise
        raise StoreError(
            f"{choice.candidate.setting.name} is live, but not marked as applied in the registry, where loads look: "
            f"{error} Give version {champion.version} of {champion.registered} the alias {APPLIED}, or run tune "
            "--apply again."
        ) from error
    progress.log("tune.applied" if done.applied else "tune.not_applied", why=done.why)
    return done


def refuse_lite(settings: Settings) -> None:
    if settings.milvus.uri.endswith(".db"):
        raise ConfigurationError(
            f"milvus.uri is {settings.milvus.uri}: Milvus Lite takes every index type and searches all of them "
            "exactly, so there is nothing to measure. Set milvus.uri to a server, or to standalone."
        )


def described(
    lake: Lake,
    settings: Settings,
    client: MilvusClient,
    version: int,
    sets: Sequence[QuerySet],
    minutes: float | None,
    seed: int,
) -> tuple[str, dict[str, object], dict[str, str]]:
    """The parent run's name, parameters and tags."""
    params = {
        "collection": settings.milvus.collection,
        "table": f"{lake.tables.catalog_schema or lake.tables.path}/{EMBEDDINGS.name}",
        "version": version,
        "k": DEEPEST,
        "target_recall": settings.tune.target_recall,
        "max_p99_ms": settings.tune.max_p99_ms,
        "max_memory": settings.tune.max_memory,
        "budget_minutes": minutes,
        "grid": json.dumps(settings.tune.grid) if settings.tune.grid else "default",
        **{f"queries_{each.name}": len(each) for each in sets},
    }
    tags = {
        "milvus": str(client.get_server_version()),
        "model_id": lake.model.id,
        "quantised": lake.quantised or "no",
        "seed": str(seed),
        "lake": lake.lake_id,
        **surroundings(),
    }
    return f"{settings.milvus.collection} v{version} seed {seed}", params, tags


def swept(
    subject: Subject, sets: Sequence[QuerySet], run: Sweep, minutes: float | None, seed: int, progress: Progress
) -> tuple[TuneReport, Choice]:
    """Everything between the parent run's begin and its choice."""
    lake, client = subject.lake, subject.client
    judged, quality = [], None
    sets, without = held_out(sets)
    for queries in sets:
        found = exact(lake, subject.version, queries, without)
        progress.log("tune.truth", queries=queries.name, count=len(queries), seconds=found.seconds)
        run.log(run.run_id, {}, {f"truth_seconds_{queries.name}": found.seconds})
        judged.append(answerable(queries, found.neighbours))
        if cut := len(queries) - len(judged[-1].queries):
            progress.log("tune.queries_left_out", queries=queries.name, count=cut, more_ties_than=MOST_TIES)
            run.log(run.run_id, {f"queries_{queries.name}_left_out": cut}, {})
        if judged[-1].queries.judged:
            quality = quality_of(lake, subject.version, queries, judged[-1].queries, without)
            if missing := quality.documents.missing:
                progress.log("tune.judged_documents_missing", count=len(missing), such_as=missing[0])
    sets = [each.queries for each in judged]
    alias, owner = subject.alias, subject.owner
    staging = subject.settings.load.staging or staging_for(subject.settings)
    for name in drop_left_over(client, alias, owner, staging):
        progress.log("tune.left_over_dropped", left_over=name)
    lacking = refusals(client, alias, owner, [VectorIndex(kind, default_build(kind, 32, 1000)) for kind in ASKED])
    with shadow(client, alias, owner) as name:
        wave_rows = subject.settings.load.wave_rows
        rows = fill(lake, subject.version, without, client, subject.address, name, staging, wave_rows, progress)
        there = [each.rows for each in segments.loaded_segments(client, name)]
        indexed = [each for each in there if each >= segments.LEAST_INDEXED_ROWS]
        ground = Ground(
            lake.model.dimension,
            max(indexed or there),
            sum(rows.values()),
            server_version(client),
            str(client.get_server_version()).endswith("-gpu"),
            lacking,
        )
        sizes = {"segments": len(there), "least_segment_rows": min(there), "most_segment_rows": max(there)}
        run.log(run.run_id, sizes, {})
        tried = grid(subject.settings.tune.grid, ground)
        estimate = Estimate(indexed, lake.model.dimension)
        queries = sum(map(len, sets))

        def seconds_of(build: Setting) -> float:
            return estimate.of(build) + search_seconds(len(tried.searches_of(build)), queries)

        tell_estimate(tried, estimate, seconds_of, minutes, progress)
        scales = scales_for(subject.settings, client, name, lake.model.dimension)
        sweeping = Sweeping(
            client, name, rows, judged, tried, Turns(tried.builds, seconds_of, minutes), estimate, subject.promise,
            scales, run, progress, seed, quality, len(without),
        )  # fmt: skip
        sweeping.skipped += tried.skipped
        with kept_where_the_store_fails(sweeping):
            sweeping.all()
    with kept_where_the_store_fails(sweeping):
        found = concluded(subject, sweeping, run)
    report = TuneReport(
        run.experiment_id,
        run.run_id,
        without_credentials(run.store.uri),
        len(sweeping.candidates),
        sweeping.skipped,
        found.champion,
        found.ndcg_at_10,
        sorted(sweeping.candidates, key=lambda each: -each.qps),
    )
    return report, found.choice


@contextmanager
def kept_where_the_store_fails(sweeping: Sweeping) -> Iterator[None]:
    """A sweep takes hours, and its measurements are good without MLflow too."""
    try:
        yield
    except StoreError as error:
        if not sweeping.table:
            raise
        file = sweeping.keep(cache_folder() / "tune")
        raise StoreError(f"{error} What was measured of {len(sweeping.table)} settings is kept in {file}.") from error


def tell_estimate(tried: Grid, estimate: Estimate, seconds_of: Any, minutes: float | None, progress: Progress) -> None:
    for build in tried.builds:
        progress.log(
            "tune.planned",
            index=build.name,
            searches=len(tried.searches_of(build)),
            build_seconds=round(estimate.of(build)),
        )
    total = sum(map(seconds_of, tried.builds))
    progress.log(
        "tune.estimate",
        builds=len(tried.builds),
        searches=sum(len(tried.searches_of(build)) for build in tried.builds),
        impossible=len(tried.skipped),
        minutes=round(total / 60, 1),
        budget_minutes=minutes,
    )
