"""All stages together, each following what the one before it writes, until somebody ends it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from .chunk import chunk
from .embed import embed, keep_loaded
from .errors import ConfigurationError, LakeBusyError, cause_of
from .flow import Flow
from .guard import guard_of
from .ingest import ingest
from .lake.freshness import RunMetrics
from .lake.session import for_a_long_run, local_cores
from .lake.tables import EMBEDDINGS
from .load import load
from .progress import Progress
from .run import STAGES, RunReport, Work, opened, plain_numbers
from .settings import Settings
from .vectors.connection import has_died, milvus_for
from .vectors.patience import in_vain, is_transient

# A stage that fails so often, with nothing done in between, ends the run.
MOST_FAILURES = 12
LONGEST_WAIT_SECONDS = 60
# A failure after so long has nothing to do with those before.
STEADY_SECONDS = 3600
# Milvus is compared with the lake at least so often: it may have lost what nobody changed.
COMPARE_SECONDS = 60
HEARTBEAT_SECONDS = 30


def run_continuous(
    settings: Settings,
    stages: tuple[str, ...] = STAGES,
    allow_deletes: bool = False,
    progress: Progress | None = None,
) -> RunReport:
    """Follow the source until SIGTERM or SIGINT; micro-batches that have begun are finished.

    A stage that fails is begun again, at growing intervals; one that goes on failing ends the run with
    its error. So do ConfigurationError and LakeBusyError, at once.
    """
    progress = progress or Progress()
    report = RunReport()
    begun = time.monotonic()
    flow = Flow(settings.pipeline, set(STAGES[:3]) <= set(stages), stages_at_once(settings))
    settings = settings.model_copy(update={"spark": for_a_long_run(settings.spark)})
    with (
        ended_by_signals(flow) as take_signals,
        opened(settings, stages, progress) as work,
        in_vain(lambda: flow.stopping.is_set() or has_died(settings)),
        ThreadPoolExecutor(len(stages) + 1) as pool,
    ):
        # Spark's start put its own handler of SIGINT in place, which cancels all jobs.
        take_signals()
        guard = guard_of(settings, allow_deletes) if "ingest" in stages else None
        work.metrics.seconds_apart = HEARTBEAT_SECONDS
        run = {
            "ingest": lambda: ingest(work.lake, settings, progress, guard, flow, work.metrics),
            "chunk": lambda: chunk(work.lake, progress, flow),
            "embed": lambda: embed(work.lake, settings, progress, flow),
            "load": lambda: load_as_it_changes(work, settings, progress, flow, report, "embed" in stages),
        }
        if "embed" in stages:
            pool.submit(keep_loaded, work.lake, settings, progress, flow)
        futures = {pool.submit(kept_up, stage, run[stage], flow, progress, report): stage for stage in stages}
        try:
            while wait(futures, HEARTBEAT_SECONDS, FIRST_EXCEPTION).not_done and not any(
                future.done() and future.exception() for future in futures
            ):
                progress.log("run.going_on", **flow.state(), **asdict(work.metrics.freshness))
        finally:
            flow.stop()
        wait(futures)
        try:
            for future in futures:
                future.result()
        finally:
            write_last(work.metrics, progress)
        return report.summed(time.monotonic() - begun, work.metrics.freshness)


def write_last(metrics: RunMetrics, progress: Progress) -> None:
    """What has not been written yet; where that fails, what the stages raised is worth more."""
    try:
        metrics.write()
    except (PySparkException, Py4JError) as error:
        progress.log("metrics.not_written", reason=cause_of(str(error)))


def stages_at_once(settings: Settings) -> int:
    """One for every two cores of this machine; all on a cluster."""
    cores = local_cores(settings.spark.master)
    return len(STAGES) if cores is None else min(len(STAGES), max(1, cores // 2))


@contextmanager
def ended_by_signals(flow: Flow) -> Iterator[Callable[[], None]]:
    """SIGTERM and SIGINT end the run in order; a second one does what it always does.

    Gives a function that sees to it again, after others put handlers of their own in place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {int(number): signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int, _: Any) -> None:
        signal.signal(number, before[number])
        # Not in the handler: what it would wait for may be held by the thread that it interrupts.
        threading.Thread(target=flow.stop).start()

    def take() -> None:
        if not flow.stopping.is_set():
            for number in before:
                signal.signal(number, end)

    take()
    try:
        yield take
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def kept_up(stage: str, work: Callable[[], Any], flow: Flow, progress: Progress, report: RunReport) -> None:
    """Do a stage's work until the end, again after what may pass.

    Where Milvus is away when the end comes, the stage's work is left as it is.
    """
    begun, steps = 0.0, 0

    def attempt() -> None:
        nonlocal begun, steps
        begun, steps = time.monotonic(), flow.steps[stage]
        try:
            if not flow.stopping.is_set():
                work()
        finally:
            # What it did before it failed stays done.
            if outcome := flow.outcomes.pop(stage, None):
                report.add(stage, outcome, time.monotonic() - begun)
                progress.log(f"{stage}.done", **plain_numbers(outcome))

    def forgive(state: RetryCallState) -> None:
        # With nothing new a stage has nothing to commit.
        if flow.steps[stage] > steps or time.monotonic() - begun > STEADY_SECONDS:
            state.attempt_number = 1

    def tell(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        progress.log(
            f"{stage}.failed", reason=str(error), failures=state.attempt_number, again_in=round(state.upcoming_sleep, 1)
        )

    attempts = Retrying(
        retry=retry_if_exception(lambda error: may_pass(error) and not flow.stopping.is_set()),
        stop=stop_after_attempt(MOST_FAILURES),
        wait=wait_exponential_jitter(initial=1, max=LONGEST_WAIT_SECONDS),
        after=forgive,
        before_sleep=tell,
        sleep=flow.rest,
        reraise=True,
    )
    try:
        attempts(attempt)
    except Exception as error:
        # Milvus is away, and the run shall end: what is left the next one does.
        if not (flow.stopping.is_set() and is_transient(error)):
            raise
        progress.log(f"{stage}.left", reason=str(error))


def may_pass(error: BaseException) -> bool:
    """Whether a stage is worth another try: a server or a source that is away comes back."""
    return isinstance(error, Exception) and not isinstance(error, ConfigurationError | LakeBusyError)


def load_as_it_changes(
    work: Work, settings: Settings, progress: Progress, flow: Flow, report: RunReport, is_told: bool
) -> None:
    """Load whenever `embeddings` changed, and now and then because Milvus may have.

    is_told: the stage embed is part of this run and says so; otherwise the table is looked at.
    """
    loaded_version, compared_at = -1, -COMPARE_SECONDS
    # A packaged server that died is started again with the next try.
    with milvus_for(settings) as address:
        while not flow.stopping.is_set():
            flow.embeddings_changed.clear()
            changed = is_told or work.lake.tables.version(EMBEDDINGS) != loaded_version
            if changed or time.monotonic() - compared_at > COMPARE_SECONDS:
                begun = time.monotonic()
                loaded_version = work.lake.tables.version(EMBEDDINGS)
                with flow.turns.of("load"):
                    outcome = load(work.lake, settings, address, progress, work.staging, work.metrics)
                compared_at = time.monotonic()
                if outcome.loaded or outcome.removed:
                    flow.got_on("load")
                report.add("load", outcome, compared_at - begun)
            if not flow.embeddings_changed.wait(COMPARE_SECONDS if is_told else settings.pipeline.trigger_seconds):
                work.metrics.write()
                # Not after a load that found nothing: what fails here would never end the run.
                flow.got_on("load")
