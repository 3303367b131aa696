"""All stages, until the index equals the source."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from .chunk import chunk
from .embed import compute_of, embed
from .guard import guard_of
from .ingest import ingest
from .lake.freshness import Freshness, RunMetrics
from .lake.lake import Lake, open_lake
from .lake.lock import STAGES, locked
from .lake.session import spark_session
from .lake.source import check_source, source_root
from .lake.storage import lake_path
from .lake.stream import begun_again
from .load import load
from .progress import Progress
from .settings import Settings, required
from .vectors.connection import STANDALONE, MilvusAddress, milvus_for
from .vectors.server import server_folder, staging_folder

# A source that never rests must not keep a run from ending: the next run goes on.
MOST_ROUNDS = 20

Outcome = TypeVar("Outcome")


@dataclass
class RunReport:
    """What a run did. `stages` holds each stage's own numbers, summed over its rounds, with seconds.

    files_seen: the whole listing, at the end. documents, chunks: rows written. deleted: documents
    that went. embedded: texts that went through the model. embeddings_reused: embeddings written
    with a vector that was there. loaded, removed: rows in Milvus. freshness: seconds from a file's
    modification until its documents could be found, of those that became searchable.
    """

    files_seen: int = 0
    documents: int = 0
    quarantined: int = 0
    deleted: int = 0
    chunks: int = 0
    embedded: int = 0
    embeddings_reused: int = 0
    loaded: int = 0
    removed: int = 0
    seconds: float = 0.0
    freshness: Freshness = field(default_factory=Freshness)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, stage: str, outcome: Any, seconds: float) -> None:
        numbers = self.stages.setdefault(stage, {"seconds": 0.0})
        numbers["seconds"] = round(numbers["seconds"] + seconds, 3)
        for name, value in asdict(outcome).items():
            if name in ("files_seen", "held_back"):
                numbers[name] = value
            elif isinstance(value, list):
                numbers[name] = sorted({*numbers.get(name, []), *value})
            elif name != "seconds":
                numbers[name] = numbers.get(name, 0) + value

    def summed(self, seconds: float, freshness: Freshness) -> "RunReport":
        """The whole run's numbers, from those of its stages."""
        for stage, name, key in (
            ("ingest", "files_seen", "files_seen"),
            ("ingest", "documents", "documents"),
            ("ingest", "quarantined", "quarantined"),
            ("ingest", "deleted", "deleted"),
            ("chunk", "chunks", "chunks"),
            ("embed", "embedded", "embedded"),
            ("embed", "reused", "embeddings_reused"),
            ("load", "loaded", "loaded"),
            ("load", "removed", "removed"),
        ):
            setattr(self, key, self.stages.get(stage, {}).get(name, 0))
        self.seconds, self.freshness = round(seconds, 3), freshness
        return self


@dataclass(frozen=True)
class Work:
    """What the stages work on. address: of Milvus; waits for the server, which comes up meanwhile."""

    lake: Lake
    metrics: RunMetrics
    staging: str | None
    opening: Future[MilvusAddress] | None

    @property
    def address(self) -> MilvusAddress:
        assert self.opening, "only a run with the stage load has Milvus"
        return self.opening.result()


@contextmanager
def opened(
    settings: Settings,
    stages: tuple[str, ...],
    progress: Progress,
    is_locked: bool = False,
    keeps_classes: bool = False,
) -> Iterator[Work]:
    """Lock, Spark, lake and Milvus for these stages, as long as the block lasts. keeps_classes: of spark_session."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as starter:
        if "ingest" in stages:
            # What is wrong with the settings is told before anything is started or made.
            check_source(source_root(required(settings.source.path, "source.path")))
        if not is_locked:
            command = "run" if stages == STAGES else " ".join(stages)
            stack.enter_context(locked(settings, command, stages, makes_lake="ingest" in stages))
        progress.log("run.starting", stages=" ".join(stages), lake=lake_path(settings))
        # Spark before Milvus: its JVM is a fork of this process, which should not speak gRPC by then.
        spark = spark_session(settings.spark, keeps_classes)
        lake = open_lake(spark, settings, "ingest" in stages, held=stages)
        if "embed" in stages:
            # Not after the stages before it.
            compute_of(lake, settings)
        # A server needs its time to come up: let it, while the first stages work.
        opening = starter.submit(stack.enter_context, milvus_for(settings)) if "load" in stages else None
        yield Work(lake, RunMetrics(lake.tables), staging_for(settings), opening)


def run_once(
    settings: Settings,
    stages: tuple[str, ...] = STAGES,
    allow_deletes: bool = False,
    progress: Progress | None = None,
    is_locked: bool = False,
) -> RunReport:
    """Work off all that there is for these stages; for all of them, until a listing differs in nothing.

    is_locked: the caller holds the locks of these stages.
    Raises LakevecError: ConfigurationError, SourceError, LakeBusyError, MilvusError.
    """
    progress = progress or Progress()
    report = RunReport()
    begun = time.monotonic()

    def timed(stage: str, work: Callable[[], Outcome]) -> Outcome:
        started = time.monotonic()
        outcome = work()
        seconds = time.monotonic() - started
        report.add(stage, outcome, seconds)
        progress.log(f"{stage}.done", seconds=round(seconds, 1), **plain_numbers(outcome))
        return outcome

    with opened(settings, stages, progress, is_locked, keeps_classes=stages == STAGES) as work:
        lake = work.lake
        guard = guard_of(settings, allow_deletes) if "ingest" in stages else None
        for round_number in range(MOST_ROUNDS):
            is_last = stages != STAGES
            if "ingest" in stages:
                found = timed("ingest", lambda: ingest(lake, settings, progress, guard, metrics=work.metrics))
                if round_number and not found.changes:
                    break
                is_last |= not found.changes
            if "chunk" in stages:
                timed("chunk", lambda: chunk(lake, progress))
            if "embed" in stages:
                timed("embed", lambda: embed(lake, settings, progress))
            if "load" in stages:
                timed(
                    "load",
                    lambda: begun_again(load, lake, settings, work.address, progress, work.staging, work.metrics),
                )
            if is_last:
                break
        else:
            progress.log("run.unfinished", rounds=MOST_ROUNDS, reason="the source goes on changing; run again")
        return report.summed(time.monotonic() - begun, work.metrics.freshness)


def plain_numbers(outcome: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(outcome).items() if name != "seconds"}


def staging_for(settings: Settings) -> str | None:
    """Where import files go when load.staging is unset: the packaged server has a place of its own."""
    if settings.milvus.uri != STANDALONE:
        return None
    return str(staging_folder(server_folder(lake_path(settings))))
