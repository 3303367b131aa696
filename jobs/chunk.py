"""`documents` -> `chunks`: split new and changed documents, merge by chunk_id."""

from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame

from ..udfs.chunk import Chunking, chunks_of
from ..udfs.model import Model
from .flow import Flow, turn
from .lake.changes import apply, children_of, delete_orphans, keys_of, last_changes, reconcile
from .lake.lake import Lake
from .lake.session import materialised, parallel_tasks
from .lake.stream import work_off
from .lake.tables import CHUNKS, DOCUMENTS
from .progress import Progress


@dataclass
class Chunked:
    """What one run of this stage did. chunks are rows written, deleted rows deleted."""

    documents: int = 0
    chunks: int = 0
    deleted: int = 0


def chunk(lake: Lake, progress: Progress, flow: Flow | None = None) -> Chunked:
    """Work off the change feed of `documents`: what there is, or with `flow` until that stops."""
    done = Chunked()
    if flow:
        flow.outcomes["chunk"] = done
        flow.begin_anew(flow.chunks)

    def handle(feed: DataFrame, known_until: int) -> None:
        with turn(flow, "chunk"):
            work(feed, known_until)

    def work(feed: DataFrame, known_until: int) -> None:
        begun = flow.begun(flow.documents) if flow else 0
        changed = materialised(last_changes(feed, "doc_id", known_until))
        keys = keys_of(changed, "doc_id", "is_new")
        documents = keys.number
        with progress.task("chunk", "documents", documents) as advance:
            desired = chunks_in(
                changed.where("not deleted"),
                lake.model,
                lake.chunking,
                parallel_tasks(lake.tables.spark),
            )
            present = children_of(lake.tables.present(CHUNKS), CHUNKS, "doc_id", keys.without("is_new"))
            merged = apply(lake.tables, CHUNKS, reconcile(desired, present, CHUNKS), announce)
            advance(documents)
        if flow:
            flow.done(flow.documents, begun)
            if any(merged.values()):
                flow.got_on("chunk")
            flow.hand_on("embed", merged)
        done.documents += documents
        done.chunks += merged["insert"] + merged["update"]
        done.deleted += merged["delete"]

    def announce(chunks: int) -> None:
        if flow:
            flow.announce(flow.chunks, chunks)
            flow.chunks_seen += chunks

    def begin_anew() -> None:
        done.deleted += delete_orphans(lake.tables, CHUNKS, DOCUMENTS, "doc_id")

    work_off(lake.tables, DOCUMENTS, lake.checkpoint("chunk"), handle, begin_anew, flow and flow.until_at_feed)
    return done


def chunks_in(documents: DataFrame, model: Model, chunking: Chunking, tasks: int) -> DataFrame:
    """The chunks of these documents, with the columns of CHUNKS."""
    return (
        documents.select("doc_id", "uri", "title", "titled", "doc_timestamp", "text", "headings", "pages")
        .repartition(tasks)
        .mapInArrow(partial(chunks_of, model=model, chunking=chunking), CHUNKS.schema)
    )
