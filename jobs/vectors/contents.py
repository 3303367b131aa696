"""What Milvus gives back for a row, field by field and number by number, against what it was to hold."""

# pyarrow.compute makes its functions at import time.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pymilvus import MilvusClient, MilvusException

from .connection import MilvusAddress, cause_in_words, connect
from .patch import RANGE
from .patience import retrying
from .rows import COLUMNS, SCHEMA, VECTOR

ROWS_PER_QUERY = 500
CONTENTS_SCHEMA = "range string, chunk_id string, differing string, problem string"


def contents_in_task(
    address: MilvusAddress, collection: str, partitions: Mapping[str, str], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """`contents` of a Spark task's rows (mapInArrow). What fails is an outcome too: its `problem`."""
    client = retrying()(connect, address)
    for batch in batches:
        yield from contents(client, collection, partitions, batch)


def contents(
    client: MilvusClient, collection: str, partitions: Mapping[str, str], batch: pa.RecordBatch
) -> Iterator[pa.RecordBatch]:
    """A row of CONTENTS_SCHEMA for each row of a batch that Milvus has.

    batch: rows.SCHEMA's columns and RANGE, no key in two ranges. partitions: range -> partition.
    differing: the fields that are other in Milvus, empty where none is.
    """
    for first in range(0, len(batch), ROWS_PER_QUERY):
        piece = batch.slice(first, ROWS_PER_QUERY)
        names = [partitions[name] for name in pc.unique(piece.column(RANGE)).to_pylist()]
        keys = json.dumps(piece.column("chunk_id").to_pylist(), ensure_ascii=False)
        try:
            found = client.query(
                collection,
                f"chunk_id in {keys}",
                output_fields=[*COLUMNS, VECTOR],
                partition_names=names,
                consistency_level="Strong",
            )
        except (MilvusException, grpc.RpcError) as error:
            yield contents_batch([(None, None, None, cause_in_words(error))])
            return
        present = {row["chunk_id"]: row for row in found}
        wanted = plain_rows(piece)
        yield contents_batch(
            [
                (row[RANGE], row["chunk_id"], " ".join(differing(row, present[row["chunk_id"]])), None)
                for row in wanted
                if row["chunk_id"] in present
            ]
        )


def plain_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows in the types in which Milvus keeps them; vectors as float32 arrays."""
    columns = [batch.column(name).cast(SCHEMA.field(name).type) for name in COLUMNS]
    rows = pa.RecordBatch.from_arrays([*columns, batch.column(RANGE)], [*COLUMNS, RANGE]).to_pylist()
    vectors = batch.column(VECTOR).to_pylist()
    return [row | {VECTOR: np.array(vector, dtype=np.float32)} for row, vector in zip(rows, vectors, strict=True)]


def differing(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """The fields that are not the same; vectors number by number, as float32."""
    fields = [name for name in COLUMNS if wanted[name] != present[name]]
    if not np.array_equal(wanted[VECTOR], np.array(present[VECTOR], dtype=np.float32)):
        fields.append(VECTOR)
    return fields


def contents_batch(rows: list[tuple[str | None, str | None, str | None, str | None]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
    names = ["range", "chunk_id", "differing", "problem"]
    return pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], names)
