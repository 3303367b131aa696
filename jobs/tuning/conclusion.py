"""The end of a sweep: the choice, in the registry and in words; plots and tables as the parent run's artifacts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from ..errors import LakevecError
from ..vectors.index import VectorIndex
from .champion import Registered, register, registered_name
from .choice import Choice, choose
from .measures import LEAST_DECIDING, averages
from .plots import pareto_plots
from .query_sets import SAMPLED
from .subject import Subject
from .sweep import Sweeping, quality_metrics
from .tracking import Sweep


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
class Conclusion:
    """ndcg_at_10: of exact search and of the champion, for judged questions."""

    choice: Choice
    champion: ChampionReport
    ndcg_at_10: Mapping[str, float] | None


def concluded(subject: Subject, sweeping: Sweeping, run: Sweep) -> Conclusion:
    """The choice, in the registry and in words; plots and tables as the parent run's artifacts."""
    choice = choose(sweeping.candidates, subject.promise)
    if choice is None:
        reasons = "; ".join(dict.fromkeys(each.reason for each in sweeping.skipped))
        raise LakevecError(
            f"Nothing could be measured, so nothing is chosen. {reasons}. See run {run.run_id} in MLflow."
        )
    exact_quality = None
    if sweeping.quality:
        by_question = sweeping.quality.of_exact()
        exact_quality = averages(by_question)
        run.log(
            run.run_id,
            {"judged_documents_missing": len(sweeping.quality.documents.missing)},
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
        quality = {"exact": exact_quality["ndcg_at_10"], "champion": sweeping.qualities[setting.name]["ndcg_at_10"]}
    return Conclusion(choice, champion_report(choice, registered), quality)


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

    sets = {each.queries.name: len(each.queries) for each in sweeping.sets}
    title = titled(subject.alias, sum(sweeping.rows.values()), sets)
    pareto_plots(sweeping.candidates, choice.candidate, subject.promise.recall, title, folder)
    pd.DataFrame(sweeping.table).to_parquet(folder / "results.parquet")
    skipped = [{**asdict(each), "build": dict(each.build), "search": dict(each.search)} for each in sweeping.skipped]
    (folder / "skipped.json").write_text(json.dumps(skipped, indent=1))


def titled(alias: str, rows: int, sets: Mapping[str, int]) -> str:
    """A plot's. sets: how many queries each has; of those that decide, a setting's worse one is shown."""
    deciding = {name: count for name, count in sets.items() if count >= LEAST_DECIDING} or sets
    words = {SAMPLED: "sampled passages"}
    counts = " or ".join(f"{count:,} {words.get(name, name)}" for name, count in deciding.items())
    return f"{alias}, {rows:,} rows, {counts}{', the worse' if len(deciding) > 1 else ''}"
