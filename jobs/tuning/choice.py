"""The choice among what was measured: the fastest setting that keeps the promise."""

from collections.abc import Sequence
from dataclasses import dataclass

from .grid import Setting
from .measures import LEAST_DECIDING, Interval

TOO_FEW = (
    f"The query sets are too small to promise anything: one of them needs {LEAST_DECIDING} queries or more (sampled "
    "ones need ten passages each, see tune.queries; or give --questions)."
)


@dataclass(frozen=True)
class Promise:
    """tune.target_recall, tune.max_p99_ms and tune.max_memory (bytes)."""

    recall: float
    p99_ms: float | None = None
    memory: int | None = None

    def __str__(self) -> str:
        limits = [f"recall@10 of at least {self.recall:g}"]
        limits += [] if self.p99_ms is None else [f"99 of 100 searches within {self.p99_ms:g} ms"]
        limits += [] if self.memory is None else [f"at most {self.memory:,} bytes"]
        return ", ".join(limits)


@dataclass(frozen=True)
class Candidate:
    """A setting as it was measured. qps: with 8 clients. memory: bytes. run_id: its run in MLflow. build_seconds: 0
    where that is not known."""

    setting: Setting
    recall: Interval
    p99_ms: float
    qps: float
    memory: int
    run_id: str = ""
    build_seconds: float = 0.0

    def is_within(self, promise: Promise) -> bool:
        """Whether latency and memory are as promised."""
        quick = promise.p99_ms is None or self.p99_ms <= promise.p99_ms
        small = promise.memory is None or self.memory <= promise.memory
        return quick and small

    def keeps(self, promise: Promise) -> bool:
        return not self.recall.few and self.recall.low >= promise.recall and self.is_within(promise)

    def score(self, promise: Promise) -> tuple[float, ...]:
        """Greater is better: promise kept, then speed; else recall."""
        kept = self.keeps(promise)
        return (1.0, self.qps) if kept else (0.0, float(self.is_within(promise)), self.recall.mean, self.qps)


@dataclass(frozen=True)
class Choice:
    """The chosen candidate; kept: whether it keeps the promise; why, in a sentence."""

    candidate: Candidate
    kept: bool
    why: str


def choose(candidates: Sequence[Candidate], promise: Promise) -> Choice | None:
    """None where nothing was measured."""
    if not candidates:
        return None
    best = max(candidates, key=lambda candidate: candidate.score(promise))
    if best.keeps(promise):
        others = sum(candidate.keeps(promise) for candidate in candidates) - 1
        return Choice(
            best, True, f"the fastest of {others + 1} settings that keep {promise}: {best.qps:,.0f} searches/s"
        )
    unkept = f"{TOO_FEW} No setting keeps {promise}" if best.recall.few else f"No setting keeps {promise}"
    found = f"{best.setting.name} has the best recall@10, {best.recall.mean:.4f} (from {best.recall.low:.4f})"
    if best.is_within(promise):
        return Choice(best, False, f"{unkept}. Within the limits, {found}.")
    best = max(candidates, key=lambda candidate: (candidate.recall.mean, candidate.qps))
    found = f"{best.setting.name} has the best recall@10, {best.recall.mean:.4f} (from {best.recall.low:.4f})"
    return Choice(best, False, f"{unkept}, and none is within its limits. Of all, {found}.")


def why_not(candidate: Candidate, chosen: Candidate, promise: Promise) -> str:
    """Why a candidate is not the chosen one, in a few words; empty for the chosen one itself."""
    if candidate.setting.name == chosen.setting.name:
        return ""
    if candidate.recall.few:
        return "too few queries were asked to promise anything"
    if candidate.recall.low < promise.recall:
        return f"its recall may be as low as {candidate.recall.low:.4f}"
    if promise.p99_ms is not None and candidate.p99_ms > promise.p99_ms:
        return f"1 of 100 searches takes {candidate.p99_ms:.1f} ms or more"
    if promise.memory is not None and candidate.memory > promise.memory:
        return f"it takes {candidate.memory:,} bytes"
    return f"it is slower: {candidate.qps:,.0f} searches/s"


def frontier(candidates: Sequence[Candidate], by_memory: bool = False) -> list[Candidate]:
    """Those that no other beats: none has a better recall and is as fast (or as small), from the worst recall on."""
    kept: list[Candidate] = []

    def goodness(candidate: Candidate) -> float:
        return -candidate.memory if by_memory else candidate.qps

    for candidate in sorted(candidates, key=lambda each: (-each.recall.mean, -goodness(each))):
        if not kept or goodness(candidate) > goodness(kept[-1]):
            kept.append(candidate)
    return kept[::-1]
