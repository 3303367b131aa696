"""Rows and keys into live partitions: upserts and deletes, idempotent by key."""

# pyarrow.compute makes its functions at import time.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterable, Iterator, Mapping, Sequence

import grpc
import pyarrow as pa
import pyarrow.compute as pc
from pymilvus import MilvusClient, MilvusException

from ..errors import MilvusError
from .connection import MilvusAddress, cause_in_words, connect
from .patience import is_transient, retrying
from .rows import checked, entities

# The time range of each row, beside the collection's columns.
RANGE = "partition"
KEYS_PER_DELETE = 10_000
OUTCOME_SCHEMA = "rows bigint, problem string, is_away boolean"
OUTCOME = pa.schema([("rows", pa.int64()), ("problem", pa.string()), ("is_away", pa.bool_())])


def upsert(
    client: MilvusClient, collection: str, batch: pa.RecordBatch, partitions: Mapping[str, str], dimension: int
) -> int:
    """Upsert the rows of a batch, each into the partition of its time range. Gives their number.

    batch: rows.SCHEMA's columns and RANGE. partitions: range -> partition.
    Raises MilvusError, before the first row of a range is written, if one of its rows may not be.
    """
    ranges = batch.column(RANGE)
    for name in pc.unique(ranges).to_pylist():
        rows = checked(batch.filter(pc.equal(ranges, name)), dimension)
        for piece in entities(rows):
            client.upsert(collection, piece, partition_name=partitions[name])
    return len(batch)


def delete(client: MilvusClient, collection: str, partition: str, keys: Sequence[str]) -> None:
    """Delete these keys from one partition; those that are not there do not matter."""
    for first in range(0, len(keys), KEYS_PER_DELETE):
        client.delete(collection, ids=list(keys[first : first + KEYS_PER_DELETE]), partition_name=partition)


def upsert_in_task(
    address: MilvusAddress,
    collection: str,
    partitions: Mapping[str, str],
    dimension: int,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """`upsert` as a Spark task does it (mapInArrow): one client per task, an outcome per batch.

    What may not be written is an outcome too, and that Milvus is away: its message comes back whole, not as a stack
    trace.
    """
    rest = iter(batches)
    try:
        # The driver is connected, so the address is right, and a task may be the job's only try.
        client = retrying()(connect, address)
        for batch in rest:
            yield outcome(upsert(client, collection, batch, partitions, dimension))
    except (MilvusError, MilvusException, grpc.RpcError) as error:
        words = str(error) if isinstance(error, MilvusError) else cause_in_words(error)
        yield outcome(0, words or repr(error), is_transient(error))
        # Spark takes a worker that leaves rows unread for one that died.
        for _ in rest:
            pass


def outcome(rows: int, problem: str | None = None, is_away: bool = False) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"rows": rows, "problem": problem, "is_away": is_away}], OUTCOME)
