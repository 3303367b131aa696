"""Files -> `documents`: list the source, compare with `files`, read and parse what is new or changed."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ..udfs.documents import Forgotten, Limits, documents_of
from ..udfs.keys import bytes_hash
from .errors import LakevecError, SourceError
from .lake.changes import DELETE, apply, reconcile
from .lake.lake import Lake
from .lake.listing import listings
from .lake.session import materialised, parallel_tasks
from .lake.source import FileTooLarge, NameNotUtf8, check_source, read_file, source_root
from .lake.stream import run_once
from .lake.tables import DOCUMENTS, FILES
from .progress import Progress
from .settings import Settings, required

# The first files show how long the next take; a piece is committed as a whole.
FIRST_PIECE = 500
PIECE_SECONDS = 60

# Errors of reading that do not pass while size and time stay the same.
LASTING = [FileTooLarge.__name__, NameNotUtf8.__name__]

# Below this many files a source may lose any share of them.
SMALL_SOURCE = 20

# What a parsing task returns, in Spark's words; udfs/documents.py has it in Arrow's.
PARSED_SCHEMA = """
    uri string, size bigint, modified_at timestamp,
    state string, hash string, documents int, error_stage string, error_class string, error_message string,
    forgotten array<string>,
    doc_id string, part string, title string, titled boolean, media_type string, text string,
    headings array<struct<start: int, end: int, level: int, text: string>>,
    pages array<struct<start: int, end: int, number: int>>,
    doc_timestamp timestamp, doc_timestamp_origin string
"""


@dataclass
class Ingested:
    """What one run of this stage did.

    files_seen: the whole listing; changes: files that were new, changed or gone; documents: rows
    written; deleted: documents deleted.
    """

    files_seen: int = 0
    changes: int = 0
    documents: int = 0
    quarantined: int = 0
    deleted: int = 0


def ingest(lake: Lake, settings: Settings, progress: Progress, allow_deletes: bool = False) -> Ingested:
    """Make `files` and `documents` follow the source, in one listing wholly worked off.

    Raises SourceError when the source cannot be read, or lost more files than
    source.max_delete_fraction allows; nothing is deleted then.
    """
    root = source_root(required(settings.source.path, "source.path"))
    check_source(root)
    done = Ingested()

    def handle(listing: DataFrame, _: int) -> None:
        # A file source's listing is read once: guard and merge see the same one.
        listing = materialised(listing)
        done.files_seen = listing.count()
        follow(lake, listing, root, settings, progress, allow_deletes, done)

    stream = listings(lake.tables.spark, root, settings.source.include, settings.source.exclude)
    try:
        run_once(stream, lake.checkpoint("ingest"), handle)
    except LakevecError as error:
        # Raised where the listing is made, it comes back as a part of Spark's text.
        if told := re.search(r"SourceError: (.*)", str(error)):
            raise SourceError(told[1]) from error
        raise
    return done


def follow(
    lake: Lake,
    listing: DataFrame,
    root: str,
    settings: Settings,
    progress: Progress,
    allow_deletes: bool,
    done: Ingested,
) -> None:
    """Bring `documents` and `files` to the state of one listing, the newest files first."""
    files = lake.tables.read(FILES)
    rows = materialised(differences(listing, files))
    # Before the rows of what is gone are: a forgotten file that moved stays forgotten.
    forgotten = forgotten_bytes(files)
    number = {row["change"]: row["count"] for row in rows.groupBy("change").count().collect()}
    done.changes += sum(number.values()) - number.get("unread", 0)
    if number.get("gone"):
        if not allow_deletes:
            guard(rows, number["gone"], files.count(), root, settings)
        done.deleted += remove(lake, rows.where("change = 'gone'").select("uri"))
        progress.log("files.deleted", files=number["gone"], documents=done.deleted)
    waiting = sum(number.values()) - number.get("gone", 0)
    if not waiting:
        return
    with progress.task("ingest", "files", waiting) as advance:
        newest_first = numbered(rows.where("change <> 'gone'"))
        taken, size = 0, min(FIRST_PIECE, settings.ingest.max_files)
        while taken < waiting:
            begun = time.monotonic()
            piece = newest_first.where(F.col("number").between(taken + 1, taken + size))
            advance(ingest_piece(lake, piece, root, settings, forgotten, done))
            taken += size
            size = min(int(size * PIECE_SECONDS / (time.monotonic() - begun)) + 1, settings.ingest.max_files)


def differences(listing: DataFrame, files: DataFrame) -> DataFrame:
    """Files that differ: change is new, changed, gone, or unread, where reading failed the last time.

    known_hash: of the bytes that were parsed; last_hash: of the bytes that were read. A forgotten
    file differs only when it is gone; one whose known time is null is read again (`lakevec retry`).
    """
    known = files.select(
        "uri",
        F.col("size").alias("known_size"),
        F.col("hash").alias("last_hash"),
        ((F.col("reason.stage") == "read") & ~F.col("reason.error_class").isin(LASTING)).alias("was_unread"),
        F.col("modified_at").alias("known_modified_at"),
        F.when(F.col("state") == "parsed", F.col("hash")).alias("known_hash"),
        F.col("reason.attempts").alias("attempts"),
        (F.col("state") == "forgotten").alias("is_forgotten"),
        "forgotten",
        F.lit(True).alias("is_known"),
    )
    is_same = F.col("size").eqNullSafe(F.col("known_size")) & (
        F.col("modified_at").eqNullSafe(F.col("known_modified_at"))
    )
    return (
        listing.withColumn("is_listed", F.lit(True))
        .join(known, "uri", "full_outer")
        .withColumn(
            "change",
            F.when(F.col("is_listed").isNull(), "gone")
            .when(F.col("is_known").isNull(), "new")
            .when(F.col("is_forgotten"), None)
            .when(~is_same, "changed")
            # Its bytes could not be had: that may pass.
            .when(F.col("was_unread"), "unread"),
        )
        .where("change is not null")
        .select(
            "uri", "size", "modified_at", "known_size", "known_hash", "last_hash", "attempts", "forgotten", "change"
        )
    )


def forgotten_bytes(files: DataFrame) -> dict[str, Forgotten]:
    """What must not come back under another name, by the hash of the file's bytes."""
    is_whole = F.col("state") == "forgotten"
    rows = files.where(F.col("hash").isNotNull() & (is_whole | (F.size("forgotten") > 0)))
    return {
        row["hash"]: Forgotten(row["uri"], None if row["state"] == "forgotten" else tuple(row["forgotten"]))
        for row in rows.select("hash", "uri", "state", "forgotten").collect()
    }


def numbered(waiting: DataFrame) -> DataFrame:
    """The files with their `number` from 1, newest first; computed once, so that no piece meets another."""
    order = Window.orderBy(F.desc("modified_at"), "uri")
    return materialised(waiting.withColumn("number", F.row_number().over(order)))


def guard(rows: DataFrame, gone: int, known: int, root: str, settings: Settings) -> None:
    """Stop before a source that lost many of its files empties the index.

    A file that only moved is not lost: among the new files of the right size, those with the hash of
    a gone one do not count.
    """
    most = settings.source.max_delete_fraction * known
    if known <= SMALL_SOURCE or gone <= most:
        return
    lost = rows.where("change = 'gone'").select("uri", F.col("known_size").alias("size"), "last_hash")
    candidates = rows.where("change = 'new'").join(lost.select("size").distinct(), "size", "left_semi")
    hashes = candidates.select("uri").mapInArrow(partial(hashed, partial(read_file, root)), "hash string")
    lost_number = lost.groupBy(F.col("last_hash").alias("hash")).agg(F.count("*").alias("lost"))
    found_number = hashes.groupBy("hash").agg(F.count("*").alias("found"))
    pairs = lost_number.join(found_number, "hash").select(F.least("lost", "found").alias("moved"))
    moved = pairs.agg(F.coalesce(F.sum("moved"), F.lit(0))).collect()[0][0]
    if gone - moved > most:
        raise SourceError(
            f"{gone - moved:,} of {known:,} known files are gone from {root}: more than "
            f"source.max_delete_fraction = {settings.source.max_delete_fraction:g} allows. Nothing was deleted. "
            "If the source is only away for now, bring it back and run again; if the files are meant to be gone, "
            "run again with --allow-deletes."
        )


def hashed(read: Callable[[str], bytes], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The hashes of the files that can be read."""
    for batch in batches:
        hashes = []
        for uri in batch.column("uri").to_pylist():
            try:
                hashes.append(bytes_hash(read(uri)))
            except OSError:
                # It counts as a file that did not move; reading it in earnest says why.
                continue
        yield pa.RecordBatch.from_arrays([pa.array(hashes, pa.string())], ["hash"])


def ingest_piece(
    lake: Lake, piece: DataFrame, root: str, settings: Settings, forgotten: Mapping[str, Forgotten], done: Ingested
) -> int:
    """Read, parse and commit some files; `documents` first, so that a crash between repeats the work."""
    limits = Limits(settings.parse.timeout_seconds, settings.parse.memory_mb)
    tasks = task_count(lake, piece.count())
    parsed = materialised(
        piece.select("uri", "size", "modified_at", "known_hash", "forgotten")
        .repartition(tasks)
        .mapInArrow(partial(documents_in, root, limits, dict(forgotten)), PARSED_SCHEMA)
    )
    outcomes = parsed.where("doc_id is null").withColumn("replaces", replaces(settings.ingest.unreadable))
    documents = parsed.where("doc_id is not null")
    present = lake.tables.read(DOCUMENTS)
    replaced = outcomes.where("replaces").select("uri")
    actions = reconcile(
        documents.select(*[name for name in DOCUMENTS.schema.names if name != "changed_at"]).withColumn(
            "changed_at", F.current_timestamp()
        ),
        present.join(F.broadcast(replaced), "uri", "left_semi"),
        DOCUMENTS,
    )
    changed = apply(lake.tables, DOCUMENTS, actions)
    done.documents += changed["insert"] + changed["update"]
    done.deleted += changed["delete"]
    apply(lake.tables, FILES, reconcile_files(outcomes, piece, lake.tables.read(FILES)))
    states = {row["state"]: row["count"] for row in outcomes.groupBy("state").count().collect()}
    done.quarantined += states.get("quarantined", 0)
    return sum(states.values())


def replaces(unreadable: Literal["keep", "remove"]) -> Column:
    """Whether an outcome's documents, which may be none, take the place of those that are known of its file."""
    is_settled = F.col("state").isin("parsed", "forgotten")
    if unreadable == "keep":
        return is_settled
    # An error of the disk or the network is not the file's.
    is_its_own = (F.col("error_stage") == "parse") | F.col("error_class").isin(LASTING)
    return is_settled | ((F.col("state") == "quarantined") & is_its_own)


def documents_in(
    root: str, limits: Limits, forgotten: Mapping[str, Forgotten], batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    return documents_of(batches, partial(read_file, root), limits, forgotten)


def reconcile_files(outcomes: DataFrame, piece: DataFrame, files: DataFrame) -> DataFrame:
    """Actions that write down what became of the files of a piece."""
    before = files.select(
        "uri",
        F.col("hash").alias("hash_before"),
        F.col("documents").alias("documents_before"),
        F.col("parsed_at").alias("parsed_before"),
    )
    reason = F.struct(
        F.col("error_stage").alias("stage"),
        "error_class",
        F.col("error_message").alias("message"),
        (F.coalesce("attempts", F.lit(0)) + 1).alias("attempts"),
        F.current_timestamp().alias("at"),
    )
    desired = (
        outcomes.where("state <> 'vanished'")
        .join(piece.select("uri", "attempts"), "uri")
        .join(before, "uri", "left")
        .select(
            "uri",
            "size",
            "modified_at",
            "hash",
            F.when(F.col("state") == "touched", "parsed").otherwise(F.col("state")).alias("state"),
            F.when(F.col("state") == "quarantined", reason).alias("reason"),
            F.when(F.col("replaces"), F.coalesce("documents", F.lit(0)))
            .otherwise(F.coalesce("documents_before", F.lit(0)))
            .alias("documents"),
            F.current_timestamp().alias("seen_at"),
            F.when(F.col("state") == "parsed", F.current_timestamp())
            .when(~F.col("replaces"), F.col("parsed_before"))
            .alias("parsed_at"),
            "forgotten",
        )
    )
    present = files.join(F.broadcast(desired.select("uri")), "uri", "left_semi")
    return reconcile(desired, present, FILES)


def remove(lake: Lake, gone: DataFrame) -> int:
    """Delete the documents of these files, then the files' rows. Gives the number of documents."""
    gone = materialised(gone)
    documents = lake.tables.read(DOCUMENTS).join(F.broadcast(gone), "uri", "left_semi")
    deleted = apply(lake.tables, DOCUMENTS, documents.select("doc_id").withColumn("action", F.lit(DELETE)))
    apply(lake.tables, FILES, gone.withColumn("action", F.lit(DELETE)))
    return deleted["delete"]


def task_count(lake: Lake, rows: int) -> int:
    """Tasks for `rows` files: enough for every core, small enough that one slow file holds up few others."""
    return max(1, min(rows, 4 * parallel_tasks(lake.tables.spark)))
