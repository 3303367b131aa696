"""Locks where no file can be locked: rows of the Delta table `locks` that expire unless they are renewed.

Whose row it is, the table's optimistic commit decides: of two that take a row at the same time one
finds the other's at its second try. That is as safe as Delta's commits on this store are. Clocks of
two machines may differ by LEASE_SECONDS less RENEW_SECONDS.
"""

import contextlib
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ..errors import LakeBusyError, LakevecError
from .tables import EMBEDDINGS, LOCKS, LakeTables

if TYPE_CHECKING:
    from .lock import Holder

# A dead process's lease is taken over after so long. A renewal is a small Spark job, which waits for a free slot
# behind the tasks that run: several times as long as a piece of embedding takes (embed.piece_seconds).
LEASE_SECONDS = 600.0
RENEW_SECONDS = 20.0
# Who lost it has his jobs cancelled so often until he ends.
CANCEL_SECONDS = 0.2

# As Python knows them, the first is no base of the others.
COMMIT_CONFLICTS = (
    DeltaConcurrentModificationException,
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    MetadataChangedException,
    ProtocolChangedException,
)

# No change feed of it is read; a whole small file is quicker rewritten than marked.
PROPERTIES = {
    "delta.enableChangeDataFeed": "false",
    "delta.enableDeletionVectors": "false",
    "delta.isolationLevel": "Serializable",
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
}


@contextlib.contextmanager
def leased(tables: LakeTables, stages: Sequence[str], holder: "Holder", makes_lake: bool = False) -> Iterator[None]:
    """Hold the leases of these stages as long as the block lasts, renewed by a thread.

    Raises LakeBusyError where somebody else holds one, LakevecError where one is lost meanwhile (the
    process slept, or the store was away for too long): the block is interrupted then.
    """
    if not (makes_lake or tables.exists(EMBEDDINGS)):
        # No lake, or a broken one, which is told when it is opened: nothing shall be made that looks like one.
        yield
        return
    lease = Lease(tables, stages, holder)
    lease.take()
    try:
        with lease.renewed():
            yield
    except BaseException as error:
        if lease.is_lost:
            raise LakevecError(
                "The lease on this lake ran out while `lakevec "
                f"{holder.command}` worked: this process, or the lake's store, stood still for too long, and another "
                "run may have begun. Nothing is lost: run again."
            ) from error
        raise
    finally:
        lease.release()


class Lease:
    """One owner's rows in `locks`."""

    def __init__(self, tables: LakeTables, stages: Sequence[str], holder: "Holder"):
        self.tables, self.stages, self.holder = tables, stages, holder
        self.owner = uuid.uuid4().hex
        self.thread = threading.current_thread()
        self.is_lost = False

    def take(self) -> None:
        if not self.tables.exists(LOCKS):
            self.retrying()(self.tables.create, LOCKS, PROPERTIES)
        self.refuse_if_held()
        # Somebody else's commit between makes this one fail, so its second try sees the other's rows.
        self.retrying()(self.merge)
        try:
            self.refuse_if_held()
        except LakeBusyError:
            self.release()
            raise

    def merge(self) -> None:
        now = datetime.now(UTC)
        since = {**asdict(self.holder), "since": datetime.fromisoformat(self.holder.since)}
        rows = [
            {"stage": stage, "owner": self.owner, **since, "until": now + timedelta(seconds=LEASE_SECONDS)}
            for stage in self.stages
        ]
        wanted = self.tables.spark.createDataFrame(
            [tuple(row[name] for name in LOCKS.schema.names) for row in rows], LOCKS.schema
        )
        (
            self.tables.delta(LOCKS)
            .alias("present")
            .merge(wanted.alias("wanted"), "present.stage = wanted.stage")
            .whenMatchedUpdateAll((F.col("present.until") < F.lit(now)) | (F.col("present.owner") == self.owner))
            .whenNotMatchedInsertAll()
            .execute()
        )

    def refuse_if_held(self) -> None:
        """Raise LakeBusyError where another owner's lease on one of the stages has not run out."""
        others = (F.col("owner") != self.owner) & (F.col("until") >= F.lit(datetime.now(UTC)))
        rows = self.tables.read(LOCKS).where(others & F.col("stage").isin(*self.stages)).collect()
        for row in rows:
            raise LakeBusyError(
                f"Another command works on the stage {row['stage']} of this lake: `lakevec {row['command']}`, process "
                f"{row['pid']} on {row['host']}, since {row['since'].astimezone(UTC):%Y-%m-%dT%H:%M:%S}+00:00. Nothing "
                "was started. Let it end, or end it: its lease runs out at "
                f"{row['until'].astimezone(UTC):%H:%M:%S} UTC unless it is renewed."
            )

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        ended = threading.Event()

        def renew() -> None:
            good_until = time.monotonic() + LEASE_SECONDS
            while not ended.wait(RENEW_SECONDS):
                begun = time.monotonic()
                try:
                    if self.renew():
                        good_until = begun + LEASE_SECONDS
                        continue
                    good_until = begun
                except Exception as error:  # Spark's, py4j's, the store's: the next try may succeed.
                    structlog.get_logger().warning("lock.renewal_failed", reason=str(error).partition("\n")[0])
                if time.monotonic() >= good_until and not ended.is_set():
                    self.lose(ended)
                    return

        renewer = threading.Thread(target=renew, name="lease", daemon=True)
        renewer.start()
        try:
            yield
        finally:
            ended.set()
            renewer.join()
        if self.is_lost:
            raise InterruptedError("the lease was lost")

    def renew(self) -> bool:
        """Push the end of the leases on; whether they are all still ours."""
        until = F.lit(datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS))
        self.retrying()(self.tables.delta(LOCKS).update, F.col("owner") == self.owner, {"until": until})
        self.tables.tidy(LOCKS)
        return self.tables.read(LOCKS).where(F.col("owner") == self.owner).count() == len(self.stages)

    def lose(self, ended: threading.Event) -> None:
        self.is_lost = True
        if self.thread is threading.main_thread() and self.thread.ident:
            # As Ctrl-C does: waiting ends, and no other micro-batch begins.
            signal.pthread_kill(self.thread.ident, signal.SIGINT)
        # What runs shall not be committed, nor what a continuous run begins before its stages have ended. What needs no
        # job of Spark's, as the last requests to Milvus, goes on.
        while True:
            with contextlib.suppress(PySparkException, Py4JError):
                self.tables.spark.sparkContext.cancelAllJobs()
            if ended.wait(CANCEL_SECONDS):
                return

    def release(self) -> None:
        try:
            self.retrying()(self.tables.delta(LOCKS).delete, F.col("owner") == self.owner)
        except Exception as error:  # It runs out by itself; what was done is done.
            structlog.get_logger().warning("lock.not_released", reason=str(error).partition("\n")[0])

    def retrying(self) -> Retrying:
        """Commits of others come between: once more, on what they left."""
        return Retrying(
            retry=retry_if_exception_type(COMMIT_CONFLICTS),
            stop=stop_after_attempt(6),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            reraise=True,
        )
