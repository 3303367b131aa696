"""Making deletions physical in Milvus: written out, compacted, and collected as garbage."""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pymilvus import MilvusClient

from .partitions import is_lite
from .patience import when_answering
from .routes import Routes

KEYS_PER_QUERY = 1_000
POLL_SECONDS = 1.0
COMPACTION_SECONDS = 300.0
# A compaction leaves out segments that are being written or indexed, so it is asked for again.
COMPACT_AGAIN_SECONDS = 15.0
# Much longer than the packaged server waits before it removes what was dropped (server_package.py).
COLLECTED_SECONDS = 300.0


def rows_of(client: MilvusClient, routes: Routes, doc_ids: Sequence[str]) -> int:
    """How many passages of these documents readers can see."""
    pieces = [list(doc_ids[first : first + KEYS_PER_QUERY]) for first in range(0, len(doc_ids), KEYS_PER_QUERY)]
    return sum(shown_rows(client, routes, f"doc_id in {piece}") for piece in pieces)


def shown_rows(client: MilvusClient, routes: Routes, which: str = "") -> int:
    """How many passages readers can see, all or those that a filter names."""
    names = [generation.partition for generation in routes.live]
    if not names:
        return 0
    if is_lite(client):
        # It counts whole collections only, and ignores filters.
        found = client.query(routes.collection, filter=which or "doc_id != ''", output_fields=["chunk_id"])
        return len(found)
    found = when_answering(
        lambda: client.query(
            routes.collection,
            filter=which,
            output_fields=["count(*)"],
            partition_names=names,
            consistency_level="Strong",
        )
    )
    return found[0]["count(*)"]


def compacted(client: MilvusClient, routes: Routes) -> bool:
    """Write out what waits, and let the server rewrite its segments until they hold no deleted row.

    Whether that was reached. Nobody else may write meanwhile.
    """
    deadline = time.monotonic() + COMPACTION_SECONDS
    asked_at: float | None = None
    # First of all: what still grows is not among the segments that are counted.
    while asked_at is None or deleted_rows(client, routes):
        if time.monotonic() > deadline:
            return False
        if asked_at is None or time.monotonic() - asked_at > COMPACT_AGAIN_SECONDS:
            client.flush(routes.collection)
            client.compact(routes.collection)
            asked_at = time.monotonic()
        time.sleep(POLL_SECONDS)
    return True


def deleted_rows(client: MilvusClient, routes: Routes) -> int:
    """Rows in segments that readers do not see any more."""
    stored = sum(segment.num_rows for segment in client.list_persistent_segments(routes.collection))
    return stored - shown_rows(client, routes)


def collected(client: MilvusClient, storage: Path) -> bool:
    """Wait until the packaged server has removed the files of segments that were replaced, or went with the collection
    that they were of: their fields and their indexes. Whether it did."""
    deadline = time.monotonic() + COLLECTED_SECONDS
    while True:
        names = client.list_collections()
        live = {str(segment.segment_id) for name in names for segment in client.list_persistent_segments(name)}
        # A folder may go while it is looked at: then once more.
        with suppress(FileNotFoundError):
            if segments_on_disk(storage) <= live:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)


def segments_on_disk(storage: Path) -> set[str]:
    """Of insert_log/<collection>/<partition>/<segment>, index_files/<build>/<version>/<partition>/<segment>, with files
    in them."""
    folders = (*storage.glob("insert_log/*/*/*"), *storage.glob("index_files/*/*/*/*"))
    return {path.name for path in folders if any(file.is_file() for file in path.rglob("*"))}


def drop(client: MilvusClient, alias: str) -> None:
    """Take everything of an index away, so that the next load makes it anew."""
    for name in client.list_collections():
        if name.startswith(f"{alias}_"):
            for known in client.list_aliases(name)["aliases"]:
                client.drop_alias(known)
            client.drop_collection(name)
