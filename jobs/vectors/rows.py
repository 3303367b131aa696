"""The rows of a collection: their columns, and the check that stands before every write.

Milvus takes NaN, NULL in INT64, over-long strings and doubled keys in silence from an import file;
so they are looked for here.
"""

# pyarrow.compute makes its functions at import time.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import MilvusError

# Most bytes (not characters) of each string.
TEXT_BYTES = {
    "chunk_id": 64,
    "doc_id": 64,
    "uri": 65_535,
    "title": 65_535,
    "heading_path": 65_535,
    "text": 65_535,
}
NUMBERS = ("doc_timestamp", "page", "start", "end")
COLUMNS = ("chunk_id", "doc_id", "doc_timestamp", "uri", "title", "heading_path", "text", "page", "start", "end")
VECTOR = "vector"

# Plain types: an import takes neither large strings nor lists of fixed size.
SCHEMA = pa.schema(
    [
        *[(name, pa.string() if name in TEXT_BYTES else pa.int64()) for name in COLUMNS],
        (VECTOR, pa.list_(pa.float32())),
    ]
)

# One request to Milvus stays below this; it refuses 64 MB.
REQUEST_BYTES = 8 << 20


def checked(batch: pa.RecordBatch, dimension: int) -> pa.RecordBatch:
    """The batch in the collection's columns, if every row may be written.

    batch: SCHEMA's columns (large strings and other integers are cast), others are left out.
    Raises MilvusError that names the chunk_ids of nulls, NaN or infinite numbers, vectors that have
    not `dimension` numbers, over-long strings and doubled keys.
    """
    batch = pa.RecordBatch.from_arrays(
        [batch.column(name).cast(SCHEMA.field(name).type) for name in SCHEMA.names], schema=SCHEMA
    )
    keys = batch.column("chunk_id")
    for name in SCHEMA.names:
        refuse(keys, batch.column(name).is_null(), f"{name} is null")
    for name, most in TEXT_BYTES.items():
        too_long = pc.greater(pc.binary_length(batch.column(name)), most)
        refuse(keys, too_long, f"{name} has more than {most:,} bytes")
    vectors = batch.column(VECTOR)
    refuse(keys, pc.not_equal(pc.list_value_length(vectors), dimension), f"the vector has not {dimension} numbers")
    # Through flatten, nulls inside a vector become NaN.
    numbers = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), dimension)
    refuse(keys, pa.array(~np.isfinite(numbers).all(axis=1)), "the vector holds NaN or infinity")
    codes = keys.dictionary_encode().indices.to_numpy()
    refuse(keys, pa.array(np.bincount(codes, minlength=1)[codes] > 1), "the key comes more than once")
    return batch


def refuse(keys: pa.Array, bad: pa.Array, what: str) -> None:
    found = keys.filter(bad)
    if len(found):
        shown = ", ".join(str(key) for key in found[:5].to_pylist())
        more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
        raise MilvusError(
            f"{len(found):,} rows of `embeddings` may not go to Milvus: {what} (chunk_id {shown}{more}). None of "
            "them was written. Look at them in the table: they were not made by lakevec's own stages."
        )


def entities(batch: pa.RecordBatch) -> Iterator[list[dict[str, Any]]]:
    """A checked batch as rows for pymilvus, in pieces that one request can carry."""
    pieces = max(1, -(-batch.nbytes // REQUEST_BYTES))
    size = max(1, -(-len(batch) // pieces))
    for first in range(0, len(batch), size):
        piece = batch.slice(first, size)
        vectors = np.array(piece.column(VECTOR).flatten()).reshape(len(piece), -1)
        rows = piece.select(list(COLUMNS)).to_pylist()
        for row, vector in zip(rows, vectors, strict=True):
            row[VECTOR] = vector
        yield rows
