"""Files -> `documents`: list the source, compare with `files`, read and parse what is new or changed."""

import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ..udfs.documents import Forgotten, Limits, documents_of
from .differences import FEW, Differing, differences, forgotten_bytes, forgotten_files, unlike
from .errors import SourceError
from .flow import Flow, turn
from .guard import Guard, guard_of, known_files, note_held_back
from .lake.changes import DELETE, UPDATE, apply, children_of, keys_named, keys_of, reconcile, with_action
from .lake.doubt import doubtful
from .lake.freshness import RunMetrics
from .lake.lake import Lake
from .lake.listing import drop_older_offsets, list_now, occasion_before, occasions
from .lake.session import materialised, parallel_tasks
from .lake.source import check_source, read_file, source_root
from .lake.stream import run_stream, was_cut_off
from .lake.tables import DOCUMENTS, FILES
from .outcomes import file_actions, later_moments, must_be_seen_again, replaces
from .progress import Progress
from .settings import Settings, required

# The first files show how long the next take; a piece is committed as a whole.
FIRST_PIECE = 500
PIECE_SECONDS = 60

# A continuous run compares also an unchanged source with `files` so often: what could not be read is tried again.
COMPARE_SECONDS = 60.0

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

# Of what a parsing task returns, what is true of a file.
OUTCOME = (
    *("uri", "size", "modified_at", "state", "hash", "documents", "forgotten"),
    *("error_stage", "error_class", "error_message"),
)


@dataclass
class Ingested:
    """What one run of this stage did.

    files_seen: the whole listing; changes: files that were new, changed or gone; documents: rows
    written; deleted: documents deleted; held_back: files whose deletion the guard does not believe.
    """

    files_seen: int = 0
    changes: int = 0
    documents: int = 0
    quarantined: int = 0
    deleted: int = 0
    held_back: int = 0


class Ingest:
    """The stage, on one source.

    flow: that of a continuous run. There files are taken in as there is room, deletions that the guard
    does not believe are held back, and a micro-batch lasts until the next listing is due. Without it
    one listing is wholly worked off, and the guard raises SourceError before anything is deleted.
    """

    def __init__(
        self,
        lake: Lake,
        settings: Settings,
        progress: Progress,
        guard: Guard,
        flow: Flow | None = None,
        metrics: RunMetrics | None = None,
    ):
        self.lake, self.settings, self.progress = lake, settings, progress
        self.guard, self.flow, self.metrics = guard, flow, metrics
        self.root = source_root(required(settings.source.path, "source.path"))
        self.checkpoint = lake.checkpoint("ingest")
        self.done = Ingested()
        self.latest = -1
        # What is in the source since then, in its version, was in a listing that was wholly worked off.
        self.known_until: datetime | None = None
        # Whether all files of a listing were compared and taken in by this run.
        self.knows_source = False
        # Files as they were listed, of which `files` tells the same; others that it may know; and when a whole listing
        # was compared with it.
        self.settled: pa.Table | None = None
        self.others: set[str] = set()
        self.compared_at = -math.inf
        # Files of the listing at hand of which the next one must ask again.
        self.unsettled: list[str] = []
        # forgotten_bytes, until a piece changes them: nobody else does as long as this stage holds its lock.
        self.forgotten: Mapping[str, tuple[Forgotten, ...]] | None = None

    def run(self) -> Ingested:
        """Make `files` and `documents` follow the source. Raises SourceError when it cannot be read."""
        check_source(self.root)
        drop_older_offsets(self.checkpoint)
        # Before the doubt, which lets go of the hash of a file that has other documents than it should.
        self.complete_forgetting()
        if was_cut_off(self.checkpoint):
            self.doubt()
        run_stream(occasions(self.lake.tables.spark), self.checkpoint, self.handle, self.flow and self.flow.until)
        return self.done

    def doubt(self) -> None:
        tables = self.lake.tables
        # `documents` come first.
        if not (tables.is_unwritten(FILES) and tables.is_unwritten(DOCUMENTS)):
            apply(tables, FILES, doubtful(tables.read(FILES), tables.read(DOCUMENTS)))
            self.forgotten = None

    def complete_forgetting(self) -> None:
        """Delete documents that `files` keeps away, which a forget left that was cut off."""
        tables = self.lake.tables
        files = forgotten_files(tables.present(FILES))
        self.forgotten = forgotten_bytes(files)
        if away := {doc_id for file in files for doc_id in file["forgotten"] or ()}:
            left = keys_named(tables.spark, "doc_id", away).among(tables.read(DOCUMENTS), "doc_id")
            actions = left.select("doc_id").distinct().withColumn("action", F.lit(DELETE))
            self.done.deleted += apply(tables, DOCUMENTS, actions)[DELETE]

    def handle(self, _: DataFrame, number: int) -> None:
        """One micro-batch: one listing."""
        if number <= self.latest:
            # Begun again, with an executor lost half-way.
            self.doubt()
            self.settled = None
        self.latest = number
        source = self.settings.source
        with turn(self.flow, "ingest"):
            began, listed_at = time.monotonic(), datetime.now(UTC)
            listing = list_now(self.root, source.include, source.exclude)
            due = self.flow.next_listing(began, time.monotonic() - began) if self.flow else None
            self.done.files_seen = len(listing)
            differing = self.compared(listing)
            if differing.gone and differing.rows is not None:
                self.remove_gone(differing.rows, differing.gone)
            else:
                self.hold_back(0, None)
            if self.flow:
                # Whoever allows deletions speaks of what is gone by now, not of what is away in a week.
                self.guard.allow_deletes = False
                # Of a source that cannot be listed nothing is told, and what the last listing found stays true.
                self.flow.outcomes["ingest"] = self.done
        self.settled = None
        self.unsettled.clear()
        arrived_after = self.known_until or occasion_before(self.checkpoint, number) or listed_at
        is_worked_off = not differing.waiting or self.take_in(differing, arrived_after, listed_at, due)
        if is_worked_off and not differing.gone:
            self.others.update(self.unsettled)
            self.settled = listing.filter(~among(self.unsettled))
        self.known_until = listed_at if is_worked_off else arrived_after
        self.knows_source |= is_worked_off
        if self.flow and due:
            self.flow.stopping.wait(max(0.0, due - time.monotonic()))

    def compared(self, listing: pa.Table) -> Differing:
        """The files that differ from what is known.

        A continuous run remembers for a while what it knows to be the same, and asks of the others only.
        """
        tables = self.lake.tables
        if self.flow and self.settled is not None and time.monotonic() - self.compared_at < COMPARE_SECONDS:
            uris = unlike(listing, self.settled).union(self.unsettled)
            if len(uris) <= FEW:
                some = listing.filter(among(uris))
                if self.others.isdisjoint(uris) and not len(self.settled.filter(among(uris))):
                    return Differing.of_new(some)
                # Some may have left the listing, and stay in `files`.
                self.others |= uris
                known = keys_named(tables.spark, "uri", uris).among(tables.read(FILES), "uri")
                rows = differences(tables.spark.createDataFrame(some), known, patience=True)
                return Differing.of_few(tables.spark, rows)
        files = tables.present(FILES)
        if self.flow:
            self.compared_at = time.monotonic()
            # Neither need be in a listing.
            self.others = {row["uri"] for row in files.where("state IN ('forgotten', 'gone')").select("uri").collect()}
        # In a continuous run listings follow each other closely: what could not be read waits a while.
        rows = differences(tables.spark.createDataFrame(listing), files, patience=self.flow is not None)
        return Differing.of(materialised(rows))

    def remove_gone(self, rows: DataFrame, gone: int) -> None:
        problem = self.guard.implausible_loss(rows, gone, known_files(self.lake.tables.read(FILES)).count())
        if problem and not self.guard.allow_deletes:
            self.hold_back(gone, problem)
            if not self.flow:
                raise SourceError(problem)
            return
        if problem:
            self.guard.believe()
        self.hold_back(0, None)
        deleted = remove(self.lake, rows.where("change = 'gone'").select("uri"))
        if self.flow:
            self.flow.got_on("ingest")
        self.done.changes += gone
        self.done.deleted += deleted
        self.progress.log("files.deleted", files=gone, documents=deleted)

    def hold_back(self, files: int, problem: str | None) -> None:
        """Remember, and tell, that the deletion of so many files is not believed; 0: all that is gone is deleted."""
        if self.flow and problem and self.done.held_back != files:
            self.progress.log("deletions.held_back", files=files, reason=problem)
        self.done.held_back = files
        note_held_back(self.lake.tables.path, problem)

    def take_in(
        self,
        differing: Differing,
        arrived_after: datetime | None,
        listed_at: datetime | None,
        due: float | None,
    ) -> bool:
        """Take files in piece by piece, the newest first. Gives whether none was left for the next listing."""
        most, waiting = self.settings.ingest.max_files, differing.waiting
        taken, size = 0, min(FIRST_PIECE, most)
        last: Mapping[str, Any] | None = None
        with self.progress.task("ingest", "files", waiting) as advance:
            while taken < waiting:
                if self.flow and due:
                    # The next listing comes when it is due, whatever is left of this one: it knows newer files.
                    if taken and time.monotonic() >= due:
                        return False
                    size = min(self.flow.files_admitted(due), most)
                    if not size:
                        return False
                begun = time.monotonic()
                piece = differing.newest(size, last)
                with turn(self.flow, "ingest"):
                    self.ingest_piece(piece, arrived_after, listed_at)
                advance(len(piece))
                last = piece[-1]
                taken += len(piece)
                size = min(int(size * PIECE_SECONDS / (time.monotonic() - begun)) + 1, most)
        return True

    def ingest_piece(
        self,
        piece: list[dict[str, Any]],
        arrived_after: datetime | None,
        listed_at: datetime | None,
    ) -> None:
        """Read, parse and commit some files; `documents` first, so that a crash between repeats the work."""
        tables = self.lake.tables
        if self.forgotten is None:
            self.forgotten = forgotten_bytes(forgotten_files(tables.present(FILES)))
        now = datetime.now(UTC)
        later = later_moments(piece, now)
        limits = Limits(self.settings.parse.timeout_seconds, self.settings.parse.memory_mb)
        files = [
            tuple(file[name] for name in ("uri", "size", "modified_at", "known_hash", "forgotten")) for file in piece
        ]
        schema = "uri string, size bigint, modified_at timestamp, known_hash string, forgotten array<string>"
        parsed = materialised(
            tables.spark.createDataFrame(files, schema)
            .repartition(task_count(self.lake, len(files)))
            .mapInArrow(partial(documents_in, self.root, limits, self.forgotten), PARSED_SCHEMA)
        )
        outcomes = parsed.where("doc_id is null").select(*OUTCOME).toArrow().to_pylist()
        replaced = {outcome["uri"] for outcome in outcomes if replaces(outcome, self.settings.ingest.unreadable)}
        known = replaced
        if self.flow and self.knows_source:
            # What came since this run knows the whole source has no documents yet.
            known = replaced.difference(file["uri"] for file in piece if file["change"] == "new")
        actions = reconcile(
            parsed.where("doc_id is not null")
            .select(*[name for name in DOCUMENTS.schema.names if name != "changed_at"])
            .withColumn("changed_at", moments(now, later)),
            children_of(tables.present(DOCUMENTS), DOCUMENTS, "uri", keys_named(tables.spark, "uri", known)),
            DOCUMENTS,
        )
        changed = apply(tables, DOCUMENTS, actions, lambda _: self.announce(len(piece)))
        rows = file_actions(outcomes, replaced, piece, arrived_after, listed_at, now, later)
        if self.flow:
            self.flow.hand_on("chunk", changed)
        if any(apply(tables, FILES, tables.spark.createDataFrame(rows, with_action(FILES))).values()) and self.flow:
            self.flow.got_on("ingest")
        if self.metrics:
            self.metrics.arrived(rows)
        self.unsettled += [outcome["uri"] for outcome in outcomes if must_be_seen_again(outcome, listed_at)]
        if any(outcome["forgotten"] or outcome["state"] == "forgotten" for outcome in outcomes):
            self.forgotten = None
        self.done.changes += sum(file["change"] != "unread" for file in piece)
        self.done.documents += changed["insert"] + changed["update"]
        self.done.deleted += changed["delete"]
        self.done.quarantined += sum(outcome["state"] == "quarantined" for outcome in outcomes)

    def announce(self, files: int) -> None:
        """Documents of so many files are about to be committed. Files that change none give chunk no work, which
        alone would make room again."""
        if self.flow:
            self.flow.announce(self.flow.documents, int(files * self.flow.chunks_per_file))
            self.flow.files_seen += files


def ingest(
    lake: Lake,
    settings: Settings,
    progress: Progress,
    guard: Guard | None = None,
    flow: Flow | None = None,
    metrics: RunMetrics | None = None,
) -> Ingested:
    """Make `files` and `documents` follow the source: once, or with `flow` until it stops.

    guard: outlives the attempts of a continuous run, so that each knows what was lost before it.
    metrics: told when which file came.
    Raises SourceError when the source cannot be read, or lost more files than
    source.max_delete_fraction allows; nothing is deleted then.
    """
    if flow:
        flow.begin_anew(flow.documents)
    return Ingest(lake, settings, progress, guard or guard_of(settings), flow, metrics).run()


def among(uris: Collection[str]) -> pc.Expression:
    return pc.field("uri").isin(pa.array(sorted(uris), pa.string()))


def moments(now: datetime, later: Mapping[str, datetime]) -> Column:
    """Now, but for the files that have another moment."""
    if not later:
        return F.lit(now)
    named = F.create_map(*[F.lit(each) for pair in later.items() for each in pair])
    return F.coalesce(named[F.col("uri")], F.lit(now))


def documents_in(
    root: str, limits: Limits, forgotten: Mapping[str, tuple[Forgotten, ...]], batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    return documents_of(batches, partial(read_file, root), limits, forgotten)


def remove(lake: Lake, gone: DataFrame) -> int:
    """Delete the documents of these files, then the files' rows. Gives the number of documents.

    A row that tells what was forgotten of its file stays: the file may come back, here or elsewhere.
    """
    keys = keys_of(materialised(gone), "uri")
    documents = children_of(lake.tables.read(DOCUMENTS), DOCUMENTS, "uri", keys)
    doc_ids = documents.select("doc_id").distinct()
    deleted = apply(lake.tables, DOCUMENTS, doc_ids.withColumn("action", F.lit(DELETE)))
    rows = keys.among(lake.tables.read(FILES), "uri").dropDuplicates(["uri"])
    has_memory = F.size(F.coalesce("forgotten", F.array())) > 0
    without_file = {
        name: F.lit(None).cast(FILES.schema[name].dataType) for name in ("modified_at", "reason", "parsed_at")
    }
    actions = rows.withColumns(
        {
            **without_file,
            "state": F.lit("gone"),
            "documents": F.lit(0),
            "action": F.when(has_memory, UPDATE).otherwise(DELETE),
        }
    )
    apply(lake.tables, FILES, actions)
    return deleted["delete"]


def task_count(lake: Lake, rows: int) -> int:
    """Tasks for `rows` files: enough for every core, small enough that one slow file holds up few others."""
    return max(1, min(rows, 4 * parallel_tasks(lake.tables.spark)))
