"""Which index, with which parameters, for these rows, at this recall and latency: measured, logged, chosen.

The live collection serves on meanwhile: builds happen on a shadow of it.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pymilvus import MilvusClient

from .errors import ConfigurationError, LakevecError
from .lake.lake import Lake, open_lake
from .lake.lock import TUNE, locked
from .lake.session import spark_session
from .lake.tables import EMBEDDINGS
from .progress import Progress
from .run import staging_for
from .settings import Settings
from .tuning.budget import Turns
from .tuning.champion import Registered, register, registered_name
from .tuning.choice import Candidate, Choice, Promise, choose
from .tuning.documents import Documents
from .tuning.estimate import Estimate, search_seconds
from .tuning.grid import Grid, Ground, Setting, Skipped, check, grid
from .tuning.measure import Judged
from .tuning.measures import averages
from .tuning.plots import pareto_plots
from .tuning.query_sets import QuerySet, asked, sampled
from .tuning.questions import read_questions
from .tuning.shadow_rows import fill
from .tuning.sweep import Sweeping, quality_metrics
from .tuning.tracking import Sweep, store_for, surroundings, sweep
from .tuning.truth import DEEPEST, exact
from .vectors import segments
from .vectors.collection import Owner
from .vectors.connection import MilvusAddress, connect, milvus_for, server_version
from .vectors.failures import failures_told
from .vectors.index import VectorIndex, default_build
from .vectors.shadow import drop_left_over, refusals, shadow
from .vectors.weight import scales_for

# Types that depend on how the server was built: it is asked.
ASKED = ("DISKANN", "SCANN")


@dataclass(frozen=True)
class ChampionReport:
    """The chosen setting as it was measured. recall_at_10 with its 95% interval; qps: with 8 clients.
    promise_kept: whether it meets tune.target_recall within the limits. version: in the model registry."""

    index_type: str
    build: Mapping[str, int]
    search: Mapping[str, int]
    recall_at_10: float
    ci_low: float
    ci_high: float
    p99_ms: float
    qps: float
    memory_bytes: int
    promise_kept: bool
    why: str
    registered: str
    version: str


@dataclass(frozen=True)
class TuneReport:
    """What a sweep found. runs: settings that were measured, each a run below parent_run_id. skipped: what was not
    tried or does not count, with the reason. ndcg_at_10: of exact search and of the champion, for judged questions.
    frontier: table of all that was measured, the fastest first."""

    experiment_id: str
    parent_run_id: str
    tracking_uri: str
    runs: int
    skipped: Sequence[Skipped]
    champion: ChampionReport
    ndcg_at_10: Mapping[str, float] | None
    measured: Sequence[Candidate]
    seconds: Mapping[str, float] = field(default_factory=dict)


def tune(
    settings: Settings,
    questions: str | None = None,
    minutes: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> TuneReport:
    """Sweep, log, choose, register.

    questions: a JSONL or a folder in BEIR's layout, measured beside sampled passages. minutes: for builds and
    searches together; unset: everything is tried. Raises LakevecError: ConfigurationError, MilvusError, and
    LakeBusyError while another sweep of this lake goes on.
    """
    progress = progress or Progress()
    refuse_lite(settings)
    check(settings.tune.grid)
    if questions:
        # What is wrong with them is told before anything is started.
        read_questions(questions)
    with locked(settings, "tune", [TUNE]):
        lake = open_lake(spark_session(settings.spark), settings)
        store = store_for(settings.mlflow, lake.tables.path)
        version = lake.tables.version(EMBEDDINGS)
        sets = [sampled(lake, version, settings.tune.queries, seed)]
        if questions:
            sets.append(asked(lake, settings, questions))
        with milvus_for(settings) as address, failures_told(address):
            client = connect(address)
            name, params, tags = described(lake, settings, client, version, sets, minutes, seed)
            with sweep(store, name, params, tags) as run:
                run.data(lake, version, sets)
                return swept(Subject(lake, version, settings, address, client), sets, run, minutes, seed, progress)


def refuse_lite(settings: Settings) -> None:
    if settings.milvus.uri.endswith(".db"):
        raise ConfigurationError(
            f"milvus.uri is {settings.milvus.uri}: Milvus Lite takes every index type and searches all of them "
            "exactly, so there is nothing to measure. Set milvus.uri to a server, or to standalone."
        )


@dataclass(frozen=True)
class Subject:
    """What is tuned: `embeddings` at a version, for one Milvus."""

    lake: Lake
    version: int
    settings: Settings
    address: MilvusAddress
    client: MilvusClient

    @property
    def alias(self) -> str:
        return self.settings.milvus.collection

    @property
    def promise(self) -> Promise:
        tune = self.settings.tune
        return Promise(tune.target_recall, tune.max_p99_ms, tune.max_memory)


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
        "seed": str(seed),
        **surroundings(),
    }
    return f"{settings.milvus.collection} v{version} seed {seed}", params, tags


def swept(
    subject: Subject, sets: Sequence[QuerySet], run: Sweep, minutes: float | None, seed: int, progress: Progress
) -> TuneReport:
    lake, client = subject.lake, subject.client
    judged = []
    for queries in sets:
        found = exact(lake, subject.version, queries)
        progress.log("tune.truth", queries=queries.name, count=len(queries), seconds=found.seconds)
        run.log(run.run_id, {}, {f"truth_seconds_{queries.name}": found.seconds})
        judged.append(Judged(queries, found.neighbours))
    documents = next((Documents(lake, subject.version, each) for each in sets if each.judged), None)
    for name in drop_left_over(client, subject.alias):
        progress.log("tune.left_over_dropped", collection=name)
    owner = Owner(lake.lake_id, lake.model.id, lake.chunking.id, lake.model.dimension)
    lacking = refusals(client, subject.alias, [VectorIndex(kind, default_build(kind, 32, 1000)) for kind in ASKED])
    with shadow(client, subject.alias, owner, uuid.uuid4().hex[:8]) as name:
        staging = subject.settings.load.staging or staging_for(subject.settings)
        wave_rows = subject.settings.load.wave_rows
        rows = fill(lake, subject.version, client, subject.address, name, staging, wave_rows, progress)
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
        found = grid(subject.settings.tune.grid, ground)
        estimate = Estimate(indexed, lake.model.dimension)
        queries = sum(map(len, sets))

        def seconds_of(build: Setting) -> float:
            return estimate.of(build) + search_seconds(len(found.searches_of(build)), queries)

        tell_estimate(found, estimate, seconds_of, minutes, progress)
        scales = scales_for(subject.settings, client, name, lake.model.dimension)
        sweeping = Sweeping(
            client, name, rows, judged, found, Turns(found.builds, seconds_of, minutes), estimate, subject.promise,
            scales, run, progress, seed, documents,
        )  # fmt: skip
        sweeping.skipped += found.skipped
        sweeping.all()
    return concluded(subject, sweeping, run)


def tell_estimate(found: Grid, estimate: Estimate, seconds_of: Any, minutes: float | None, progress: Progress) -> None:
    for build in found.builds:
        progress.log(
            "tune.planned",
            index=build.name,
            searches=len(found.searches_of(build)),
            build_seconds=round(estimate.of(build)),
        )
    total = sum(map(seconds_of, found.builds))
    progress.log(
        "tune.estimate",
        builds=len(found.builds),
        searches=sum(len(found.searches_of(build)) for build in found.builds),
        impossible=len(found.skipped),
        minutes=round(total / 60, 1),
        budget_minutes=minutes,
    )


def concluded(subject: Subject, sweeping: Sweeping, run: Sweep) -> TuneReport:
    """The choice, in the registry and in words; plots and tables as the parent run's artifacts."""
    choice = choose(sweeping.candidates, subject.promise)
    if choice is None:
        reasons = "; ".join(dict.fromkeys(each.reason for each in sweeping.skipped))
        raise LakevecError(
            f"Nothing could be measured, so nothing is chosen. {reasons}. See run {run.run_id} in MLflow."
        )
    exact_quality = None
    if documents := sweeping.documents:
        judged = next(each for each in sweeping.sets if each.queries is documents.queries)
        by_question = documents.quality([each.keys[:DEEPEST] for each in judged.truth])
        exact_quality = averages(by_question)
        run.log(
            run.run_id,
            {"judged_documents_missing": documents.missing},
            {f"exact_{name}": value for name, value in quality_metrics(by_question, sweeping.seed).items()},
        )
    candidate = choice.candidate
    setting, recall = candidate.setting, candidate.recall
    measured = {
        "recall_at_10": recall.mean,
        "ci_low": recall.low,
        "ci_high": recall.high,
        "p99_ms": candidate.p99_ms,
        "qps": candidate.qps,
        "memory_bytes": candidate.memory,
        "target_recall": subject.promise.recall,
    }
    # MLflow and YAML know no numbers of NumPy.
    facts = {name: float(value) for name, value in measured.items()}
    text = yaml.safe_dump(
        {"index": {"type": setting.type, "build": dict(setting.build), "search": dict(setting.search)},
         "measured": facts, "why": choice.why}, sort_keys=False,
    )  # fmt: skip
    with run.files() as folder:
        write_files(folder, sweeping, choice, subject)
        (folder / "choice.yaml").write_text(text)
    run.log(run.run_id, {"champion": setting.name}, {f"champion_{name}": value for name, value in facts.items()})
    index = VectorIndex(setting.type, dict(setting.build), dict(setting.search))
    run.client.log_text(candidate.run_id, text, "choice.yaml")
    registered = register(run.client, registered_name(subject.settings, subject.lake), candidate.run_id, index, facts)
    quality = None
    if exact_quality:
        quality = {"exact": exact_quality["ndcg_at_10"], "champion": sweeping.quality[setting.name]["ndcg_at_10"]}
    return TuneReport(
        run.experiment_id,
        run.run_id,
        run.store.uri,
        len(sweeping.candidates),
        sweeping.skipped,
        champion_report(choice, registered),
        quality,
        sorted(sweeping.candidates, key=lambda each: -each.qps),
    )


def champion_report(choice: Choice, registered: Registered) -> ChampionReport:
    candidate = choice.candidate
    return ChampionReport(
        candidate.setting.type,
        candidate.setting.build,
        candidate.setting.search,
        candidate.recall.mean,
        candidate.recall.low,
        candidate.recall.high,
        candidate.p99_ms,
        candidate.qps,
        candidate.memory,
        choice.kept,
        choice.why,
        registered.name,
        registered.version,
    )


def write_files(folder: Path, sweeping: Sweeping, choice: Choice, subject: Subject) -> None:
    import pandas as pd

    title = f"{subject.alias}, {sum(sweeping.rows.values()):,} rows, {len(sweeping.sets[0].queries):,} queries"
    pareto_plots(sweeping.candidates, choice.candidate, subject.promise.recall, title, folder)
    pd.DataFrame(sweeping.table).to_parquet(folder / "results.parquet")
    skipped = [{**asdict(each), "build": dict(each.build), "search": dict(each.search)} for each in sweeping.skipped]
    (folder / "skipped.json").write_text(json.dumps(skipped, indent=1))
