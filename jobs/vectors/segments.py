"""What a loaded collection really serves from: its segments, whether each has its index, and what that weighs."""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pymilvus import MilvusClient

from .rows import VECTOR

# Milvus builds no index for fewer rows (its setting rootCoord.minSegmentSizeToEnableIndex), and searches
# them one by one.
LEAST_INDEXED_ROWS = 1024
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Segment:
    """is_indexed: whether it carries the index that was asked for."""

    rows: int
    is_indexed: bool


def loaded_segments(client: MilvusClient, collection: str, index_name: str = VECTOR) -> list[Segment]:
    return [
        Segment(found.num_rows, found.index_name == index_name)
        for found in client.list_loaded_segments(collection)
        if found.num_rows
    ]


def fault(segments: Sequence[Segment], rows: int, index_type: str, with_deleted: bool = False) -> str | None:
    """Why a search over these segments would not measure the index; None where it would.

    rows: of the collection. with_deleted: segments may have more, since a row that is deleted stays in its segment.
    """
    seen = sum(segment.rows for segment in segments)
    if seen < rows or (seen > rows and not with_deleted):
        return f"its segments have {seen:,} rows, the table has {rows:,}"
    if index_type == "FLAT":
        # It is the exact search, and no segment carries anything for it.
        return None
    bare = [segment.rows for segment in segments if not segment.is_indexed and segment.rows >= LEAST_INDEXED_ROWS]
    if bare:
        found = f"{len(bare)} segments with {sum(bare):,} rows do not carry the index"
        return f"{found}: they are searched exactly, or by the one before it"
    if not any(segment.is_indexed for segment in segments):
        return f"no segment has an index: each has fewer than {LEAST_INDEXED_ROWS:,} rows, which Milvus does not index"
    return None


def wait_until_indexed(
    client: MilvusClient,
    collection: str,
    rows: int,
    index_type: str,
    seconds: float,
    with_deleted: bool = False,
    index_name: str = VECTOR,
) -> tuple[list[Segment], str | None]:
    """The segments once they all serve from their index, or as they are after `seconds`, with what is wrong.

    A load does not wait for an index: it serves the raw vectors until then.
    """
    deadline = time.monotonic() + seconds
    while True:
        segments = loaded_segments(client, collection, index_name)
        wrong = fault(segments, rows, index_type, with_deleted)
        if wrong is None or time.monotonic() > deadline:
            return segments, wrong
        time.sleep(POLL_SECONDS)
