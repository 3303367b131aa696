"""Sweeps that were made, read from MLflow alone: no lake, no Milvus, no Spark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..vectors.index import BUILD, SEARCH
from .choice import Candidate, Promise
from .grid import Setting
from .measure import LEAST_DECIDING
from .measures import Interval
from .store import ToldClient, client_of
from .tracking import Store


@dataclass(frozen=True)
class PastSweep:
    """One parent run. candidates: the settings that were measured. champion: the chosen one's name; None where the
    sweep did not come to a choice. params, tags: the parent run's."""

    run_id: str
    name: str
    status: str
    at: datetime
    promise: Promise
    candidates: list[Candidate]
    champion: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def chosen(self) -> Candidate | None:
        return next((each for each in self.candidates if each.setting.name == self.champion), None)

    @property
    def subject(self) -> tuple[str | None, str | None]:
        """Lake and collection: sweeps of another are not to be compared with this one."""
        return self.tags.get("lake"), self.params.get("collection")


def past_sweeps(store: Store, most: int = 20) -> list[PastSweep]:
    """The newest sweeps first; none where there was none. Raises StoreError."""
    client = ToldClient(client_of(store.uri), store.uri)
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None:
        return []
    parents = client.search_runs(
        [experiment.experiment_id],
        "params.target_recall != ''",
        max_results=most,
        order_by=["attributes.start_time DESC"],
    )
    return [past_sweep(client, experiment.experiment_id, parent) for parent in parents]


def past_sweep(client: Any, experiment_id: str, parent: Any) -> PastSweep:
    params = parent.data.params
    measured, token, (deciding, few) = [], None, deciding_metrics(params)
    while True:
        page = client.search_runs(
            [experiment_id],
            f"tags.mlflow.parentRunId = '{parent.info.run_id}' and attributes.status = 'FINISHED'",
            page_token=token,
            order_by=["attributes.start_time ASC"],
        )
        measured += [candidate_of(run, deciding, few) for run in page]
        if not (token := page.token):
            break
    return PastSweep(
        parent.info.run_id,
        parent.info.run_name,
        parent.info.status,
        datetime.fromtimestamp(parent.info.start_time / 1000, UTC),
        Promise(float(params["target_recall"]), number(params.get("max_p99_ms")), whole(params.get("max_memory"))),
        measured,
        params.get("champion"),
        params,
        parent.data.tags,
    )


def deciding_metrics(params: Mapping[str, str]) -> tuple[list[str], bool]:
    """recall@10 of the query sets that decided, as Measurement.deciding has it; whether they are too few queries to."""
    names = {"recall_at_10": "queries_sampled", "questions_recall_at_10": "queries_questions"}
    counts = {
        metric: int(params[name]) - int(params.get(f"{name}_left_out", 0))
        for metric, name in names.items()
        if name in params
    }
    many = [metric for metric, count in counts.items() if count >= LEAST_DECIDING]
    return many or list(counts), not many


def candidate_of(run: Any, deciding: Sequence[str], few: bool) -> Candidate:
    params, metrics = run.data.params, run.data.metrics
    kind = params["index_type"]
    build = {name: int(params[name]) for name in BUILD[kind] if name in params}
    search = {name: int(params[name]) for name in SEARCH[kind] if name in params}
    found = [
        Interval(metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"], few)
        for name in deciding
        if name in metrics
    ]
    # As the sweep did: the query set that it is worse for.
    recall = min(found, key=lambda each: (each.low, each.mean))
    return Candidate(
        Setting(kind, build, search),
        recall,
        metrics["latency_p99_ms"],
        metrics["qps_8_clients"],
        int(metrics["memory_bytes"]),
        run.info.run_id,
    )


def number(text: str | None) -> float | None:
    return None if text in (None, "None") else float(text)


def whole(text: str | None) -> int | None:
    return None if text in (None, "None") else int(float(text))
