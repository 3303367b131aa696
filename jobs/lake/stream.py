"""How a stage's stream is run: to its end, its own errors kept through Spark's, anew where its past is lost."""

import json
import shutil
import threading
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pyarrow import fs
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from ..errors import LakevecError, cause_of
from .storage import storage
from .tables import LakeTables, Table

Outcome = TypeVar("Outcome")
Handler = Callable[[DataFrame, int], None]
# Ends a stream that goes on, when it is set; and how often the stream looks for work, in seconds.
Until = tuple[threading.Event, float]

# What Delta says when the change feed's files or the log's versions were vacuumed.
LOST_PAST = (
    "FAILED_READ_FILE.FILE_NOT_EXIST",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_CHANGE_DATA_FILE_NOT_FOUND",
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_FILE_NOT_FOUND",
    # Of a stream with another ending.
    "DELTA_LOG_FILE_NOT_FOUND",
    # A feed of versions older than a week is refused, whether their files are there or not.
    "DELTA_UNSUPPORTED_TIME_TRAVEL_BEYOND_DELETED_FILE_RETENTION_DURATION",
    # The table was deleted and made again.
    "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
)

# A Python worker has 10 s to start in; Spark has no setting for it, and a machine
# with ten processes for each core takes longer.
SLOW_START = "Python worker failed to connect back"
# What a micro-batch had computed went with its executor.
LOST_EXECUTOR = "CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND"
BEGINNINGS = 5

# Read when a stream starts; the session is all streams'.
POLLING_DELAY = "spark.sql.streaming.pollingDelay"
ONE_STARTS = threading.Lock()


class StreamFailedError(LakevecError):
    """Its text is the cause; `whole` is all that Spark said, most of it a stack."""

    def __init__(self, checkpoint: str, whole: str):
        super().__init__(
            f"The stream over {checkpoint} failed: {cause_of(whole)}. What was committed stays; when the cause is "
            "mended, run again."
        )
        self.whole = whole


class StreamEndedError(Exception):
    """Raised within a handler that leaves its micro-batch to the next run, because the stream shall end."""


def work_off(
    tables: LakeTables,
    parent: Table,
    checkpoint: str,
    handle: Handler,
    begin_anew: Callable[[], None],
    until: Until | None = None,
) -> None:
    """Hand all that waits in a table's change feed to `handle`, then return; with `until`, all that will ever come.

    handle: given rows of the feed, and the version until which rows may have been handed over before, to a
    handler that died, or under a checkpoint that was lost. Rows of later versions never were.

    A feed that begins gives what is, not what was deleted before: without a checkpoint, or when the
    feed's past was vacuumed, `begin_anew` deletes the rows whose parent is gone, and the stream starts
    with a snapshot.
    """
    if until is None and nothing_waits(tables, parent, checkpoint):
        return
    looked_at, latest, known_until = -1, -1, tables.version(parent)

    def anew() -> None:
        nonlocal looked_at
        looked_at = tables.version(parent)
        begin_anew()

    def guarded(batch: DataFrame, number: int) -> None:
        nonlocal latest, known_until
        # The snapshot of a new stream, and a micro-batch that is begun again.
        if number == 0 or number <= latest:
            known_until = tables.version(parent)
        latest = number
        # What was deleted after the look and before the snapshot, which is fixed by now, no feed will tell.
        if number == 0 and known_until != looked_at:
            anew()
            known_until = tables.version(parent)
        handle(batch, known_until)

    if not has_checkpoint(checkpoint):
        anew()
    try:
        run_stream(tables.feed(parent), checkpoint, guarded, until)
    except LakevecError as error:
        if not any(condition in whole_text(error) for condition in LOST_PAST):
            raise
        delete_folder(checkpoint)
        anew()
        run_stream(tables.feed(parent), checkpoint, guarded, until)


def run_stream(stream: DataFrame, checkpoint: str, handle: Handler, until: Until | None = None) -> None:
    """Work off all that is there, then return; with `until`, go on until that is set.

    An exception of the handler comes out as it was raised: Spark would hand on its text alone.
    """
    begun_again(run_from_checkpoint, stream, checkpoint, handle, until)


def begun_again(work: Callable[..., Outcome], *arguments: Any) -> Outcome:
    """Do work that may be repeated: again where the machine was too slow for it, or an executor died."""
    beginnings = Retrying(
        retry=retry_if_exception(is_worth_another_beginning),
        stop=stop_after_attempt(BEGINNINGS),
        wait=wait_random_exponential(multiplier=2, max=20),
        reraise=True,
    )
    return beginnings(work, *arguments)


def is_worth_another_beginning(error: BaseException) -> bool:
    return isinstance(error, Exception) and any(sign in whole_text(error) for sign in (SLOW_START, LOST_EXECUTOR))


def whole_text(error: BaseException) -> str:
    return error.whole if isinstance(error, StreamFailedError) else str(error)


def run_from_checkpoint(stream: DataFrame, checkpoint: str, handle: Handler, until: Until | None) -> None:
    raised: list[BaseException] = []
    working, closing = threading.Lock(), threading.Event()
    drop_orphaned_checksums(checkpoint)

    def guarded(batch: DataFrame, number: int) -> None:
        try:
            with working:
                if closing.is_set():
                    raise StreamEndedError
                handle(batch, number)
        except Exception as error:
            raised.append(error)
            raise
        except BaseException as error:
            raised.append(error)
            # py4j hands on Exceptions alone; of others the JVM would wait for an answer for ever.
            raise RuntimeError(repr(error)) from error

    writer = stream.writeStream.foreachBatch(guarded).option("checkpointLocation", checkpoint)
    if until:
        stopping, seconds = until
        query = started(writer, stream.sparkSession, seconds)
    else:
        stopping, query = None, writer.trigger(availableNow=True).start()
    try:
        if stopping is None:
            query.awaitTermination()
        else:
            while not query.awaitTermination(1):  # pyright: ignore[reportArgumentType]
                if stopping.is_set():
                    # Between two micro-batches: none is cut short. Not stopped under the lock: `stop` waits for
                    # the stream's thread, which may wait for the lock.
                    with working:
                        closing.set()
                    query.stop()
    except StreamingQueryException as error:
        if raised and isinstance(raised[0], StreamEndedError):
            return
        if raised and (isinstance(raised[0], LakevecError) or not isinstance(raised[0], Exception)):
            raise raised[0] from error
        raise StreamFailedError(checkpoint, str(error)) from error
    finally:
        if query.isActive:
            query.stop()


def started(writer: DataStreamWriter, spark: SparkSession, seconds: float) -> StreamingQuery:
    """Start a stream that goes on, and looks again so many seconds after a look that found nothing.

    A trigger's own interval ends at a time of the wall clock: set back by an hour, it would stand still for one.
    """
    with ONE_STARTS:
        spark.conf.set(POLLING_DELAY, f"{round(seconds * 1000)}ms")
        try:
            return writer.trigger(processingTime="0 seconds").start()
        finally:
            spark.conf.unset(POLLING_DELAY)


def nothing_waits(tables: LakeTables, parent: Table, checkpoint: str) -> bool:
    """Whether a stream would find nothing; where that cannot be told, it is begun, which takes a second and more."""
    state = tables.state(parent)
    if state is None or was_cut_off(checkpoint):
        return False
    table_id, version = state
    offset = next_offset(checkpoint)
    if offset is None or offset["reservoirId"] != table_id:
        return False
    return next_version(tables, parent, checkpoint) == version + 1


def next_version(tables: LakeTables, parent: Table, checkpoint: str) -> int:
    """The first version of `parent` that a stage has not wholly worked off; 0 where it never began, or has not ended
    the snapshot that it began with."""
    offset = next_offset(checkpoint)
    if offset is None or offset["isStartingVersion"]:
        return 0
    version, last = offset["reservoirVersion"], offset["index"]
    # The last file of the version that is done, -1 where none is. An offset stands at a version's end or at the next
    # one's begin, or within it: a micro-batch has a thousand files at most.
    files = tables.changed_files(parent, version) or 0
    return version + (0 <= last >= files - 1)


def next_offset(checkpoint: str) -> dict[str, Any] | None:
    """Where a table's stream goes on, in Delta's words; None where it never ended a micro-batch, or nobody knows.

    Spark writes `offsets/N` when a micro-batch is planned and `commits/N` when it is done.
    """
    ended = set(batches(checkpoint, "commits")) & set(batches(checkpoint, "offsets"))
    if not ended:
        return None
    system, path = storage(checkpoint)
    with system.open_input_stream(f"{path}/offsets/{max(ended)}") as file:
        return json.loads(file.read().decode().splitlines()[-1])


def has_checkpoint(checkpoint: str) -> bool:
    """Whether a stream has begun there: the folders come before the first micro-batch is written down."""
    return bool(batches(checkpoint, "offsets"))


def was_cut_off(checkpoint: str) -> bool:
    """Whether what was done may have been left half-way: the last micro-batch did not end, or nobody knows."""
    begun, ended = batches(checkpoint, "offsets"), batches(checkpoint, "commits")
    return not begun or not ended or max(begun) > max(ended)


def batches(checkpoint: str, folder: Literal["offsets", "commits"]) -> list[int]:
    """Numbers of the micro-batches that were written down as begun (offsets) or as ended (commits)."""
    return [int(name) for name in names_in(f"{checkpoint}/{folder}") if name.isdigit()]


def names_in(folder: str) -> list[str]:
    system, path = storage(folder)
    return [info.base_name for info in system.get_file_info(fs.FileSelector(path, allow_not_found=True))]


def drop_orphaned_checksums(checkpoint: str) -> None:
    """Delete the checksums of files that are gone: because of one, Spark would not write its file again
    ("Multiple streaming queries are concurrently using ...")."""
    for folder in ("offsets", "commits"):
        names = set(names_in(f"{checkpoint}/{folder}"))
        for name in names:
            if name.startswith(".") and name.endswith(".crc") and name[1:-4] not in names:
                system, path = storage(f"{checkpoint}/{folder}/{name}")
                system.delete_file(path)


def delete_folder(folder: str) -> None:
    system, path = storage(folder)
    if isinstance(system, fs.LocalFileSystem):
        shutil.rmtree(path, ignore_errors=True)
    else:
        system.delete_dir(path)
