"""The sweep itself: build after build on the shadow, all searches on each, everything logged as it is measured."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from pymilvus import MilvusClient, MilvusException

from ..errors import MilvusError
from ..progress import Progress
from ..vectors import partitions, segments, shadow
from ..vectors.connection import cause_in_words
from ..vectors.index import VectorIndex
from ..vectors.partitions import Generation
from ..vectors.weight import Scales, Weight
from .budget import Turns
from .choice import Candidate, Promise
from .estimate import Estimate
from .grid import Grid, Setting, Skipped
from .measure import CLIENTS, Answers, Judged, Measurement, Search, measure
from .measures import averages, interval
from .quality import Quality
from .query_sets import SAMPLED
from .shadow_rows import wait_until_seen
from .tracking import Sweep

INDEXED_SECONDS = 120.0


@dataclass
class Sweeping:
    """What a sweep works on, and what it has found. rows: of the shadow's partitions. sets: query sets with
    their exact answers, the timed one first. quality: how good the judged set's answers are. held_out: passages that
    the shadow does not have, and the live collection has."""

    client: MilvusClient
    name: str
    rows: dict[Generation, int]
    sets: Sequence[Judged]
    grid: Grid
    turns: Turns
    estimate: Estimate
    promise: Promise
    scales: Scales
    run: Sweep
    progress: Progress
    seed: int
    quality: Quality | None = None
    held_out: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)
    qualities: dict[str, dict[str, float]] = field(default_factory=dict)

    def all(self) -> None:
        """Build and search until nothing is left, or the time is spent."""
        while build := self.turns.next():
            try:
                with self.skipping(build):
                    self.one(build)
            except shadow.BuildStalled as error:
                self.skip(build, f"{error}")
                self.turns.leave_all(f"the server is at {build.name} still, and nothing can be measured beside it")
        self.skipped += self.turns.untried

    @contextmanager
    def skipping(self, setting: Setting) -> Iterator[None]:
        """What the server cannot build, load or search is left out, as long as it answers at all."""
        try:
            yield
        except shadow.BuildStalled:
            raise
        except (MilvusError, MilvusException, grpc.RpcError) as error:
            try:
                self.client.get_server_version()
            except (MilvusException, grpc.RpcError):
                raise error from None
            self.skip(setting, str(error) if isinstance(error, MilvusError) else cause_in_words(error))

    def one(self, build: Setting) -> None:
        total = sum(self.rows.values())
        expected = self.estimate.of(build)
        self.progress.log("tune.building", index=build.name, seconds_expected=round(expected))
        index = VectorIndex(build.type, dict(build.build))
        shadow.change_index(self.client, self.name, index)
        begun, done = time.monotonic(), 0
        with self.progress.task("build", "rows", total) as advance:

            def told(indexed: int, _: int) -> None:
                nonlocal done
                advance(max(0, indexed - done))
                done = max(done, indexed)

            shadow.wait_until_built(self.client, self.name, expected, told)
        seconds = time.monotonic() - begun
        self.estimate.learn(build, seconds)
        partitions.load(self.client, self.name, self.rows)
        wait_until_seen(self.client, self.name, self.rows)
        carried = shadow.index_name(index)
        found, wrong = segments.wait_until_indexed(
            self.client, self.name, total, build.type, INDEXED_SECONDS, index_name=carried
        )
        if wrong:
            self.skip(build, f"not measured: {wrong}")
            return
        weight = self.scales.weigh(index, found).scaled(total, total + self.held_out)
        bare = sum(each.rows for each in found if not each.is_indexed) / total
        before = len(self.candidates)
        for setting in self.grid.searches_of(build):
            with self.skipping(setting):
                self.one_search(setting, seconds, weight, bare)
        if scores := [candidate.score(self.promise) for candidate in self.candidates[before:]]:
            self.turns.told(build, max(scores))

    def one_search(self, setting: Setting, seconds: float, weight: Weight, bare: float) -> None:
        """One search setting as a run, and a candidate where what was measured is the index."""
        begun = time.monotonic()
        found = measure(searching(self.client, self.name, list(self.rows)), setting, self.sets, self.seed, bare)
        if found.wrong:
            self.skip(setting, f"invalid: {found.wrong}")
            return
        by_question = self.judged(setting, found)
        metrics = {
            **metrics_of(found),
            "build_seconds": seconds,
            "index_bytes": weight.index_bytes,
            "memory_bytes": weight.memory_bytes,
            "rows_without_index": round(bare * sum(self.rows.values())),
            **(quality_metrics(by_question, self.seed) if by_question else {}),
        }
        tags, table = {"memory_by": weight.way}, per_query(self.sets, found, by_question)
        row = {"setting": setting.name, "index_type": setting.type, **setting.build, **setting.search} | metrics
        # Before it is logged: what was measured is not lost where that fails.
        self.table.append(row)
        row["run_id"] = run_id = self.run.child(setting, metrics, tags, table, seconds=time.monotonic() - begun)
        deciding = found.deciding
        candidate = Candidate(setting, deciding, found.p99_ms, found.qps[CLIENTS], weight.memory_bytes, run_id, seconds)
        self.candidates.append(candidate)
        self.progress.log(
            "tune.measured",
            index=setting.name,
            recall_at_10=round(deciding.mean, 4),
            ci_low=round(deciding.low, 4),
            p99_ms=round(found.p99_ms, 1),
            qps=round(found.qps[CLIENTS]),
        )

    def judged(self, setting: Setting, found: Measurement) -> Mapping[str, Mapping[str, float]]:
        """How good the answers to each judged question are, beside how many of the exact ones they are."""
        if self.quality is None:
            return {}
        answers = found.answers[self.quality.documents.queries.name]
        by_question = self.quality.of(answers.ids)
        self.qualities[setting.name] = averages(by_question)
        return by_question

    def keep(self, folder: Path) -> Path:
        """What was measured, as a Parquet file of the folder."""
        import pandas as pd

        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.run.run_id}.parquet"
        pd.DataFrame(self.table).to_parquet(file)
        return file

    def skip(self, setting: Setting, reason: str) -> None:
        self.skipped.append(Skipped(setting.type, setting.build, setting.search, reason))
        self.progress.log("tune.skipped", index=setting.name, reason=reason)
        tag = "invalid" if reason.startswith(("invalid", "not measured")) else "failed"
        self.run.child(setting, {}, {tag: reason}, None, failed=True)


def searching(client: MilvusClient, name: str, generations: Sequence[Generation]) -> Search:
    def search(vectors: list, limit: int, params: dict[str, int]) -> list[list[tuple[str, float]]]:
        return shadow.search(client, name, generations, vectors, limit, params)

    return search


def metrics_of(found: Measurement) -> dict[str, float]:
    metrics = {
        "latency_p50_ms": found.quantile(50),
        "latency_p95_ms": found.quantile(95),
        "latency_p99_ms": found.quantile(99),
        **{f"qps_{clients}_clients": rate for clients, rate in found.qps.items()},
        **dict(zip((f"qps_{CLIENTS}_clients_low", f"qps_{CLIENTS}_clients_high"), found.spread, strict=True)),
    }
    for name, answers in found.answers.items():
        metrics |= recall_metrics(answers, "" if name == SAMPLED else f"{name}_")
    return metrics


def recall_metrics(answers: Answers, prefix: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for depth, each in answers.intervals.items():
        name = f"{prefix}recall_at_{depth}"
        found |= {name: each.mean, f"{name}_low": each.low, f"{name}_high": each.high}
    return found


def quality_metrics(by_question: Mapping[str, Mapping[str, float]], seed: int) -> dict[str, float]:
    """Averages, and the interval of nDCG."""
    import numpy as np

    each = interval(np.array([row["ndcg_at_10"] for row in by_question.values()]), seed)
    return averages(by_question) | {"ndcg_at_10_low": each.low, "ndcg_at_10_high": each.high}


def per_query(
    sets: Sequence[Judged], found: Measurement, by_question: Mapping[str, Mapping[str, float]]
) -> dict[str, list]:
    """A row for each query of each set, by column; milliseconds for the set that is timed, the first.

    by_question: nDCG@10 and its like of the judged questions."""
    columns: dict[str, list] = {"query_set": [], "query_id": [], "milliseconds": []}
    for judged in sets:
        queries, answers = judged.queries, found.answers[judged.queries.name]
        timed = found.milliseconds[: len(queries)] if judged is sets[0] else [None] * len(queries)
        columns["query_set"] += [queries.name] * len(queries)
        columns["query_id"] += queries.ids
        columns["milliseconds"] += [None if value is None else round(float(value), 3) for value in timed]
        for depth, values in answers.recall.items():
            columns.setdefault(f"recall_at_{depth}", []).extend(values.tolist())
        for name in dict.fromkeys(name for each in by_question.values() for name in each):
            known = by_question if queries.judged else {}
            columns.setdefault(name, []).extend(known.get(key, {}).get(name) for key in queries.ids)
    return columns
