import numpy as np
import pyarrow as pa
import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.vectors.rows import SCHEMA, checked, entities

NAN, INFINITY = float("nan"), float("inf")


def batch(*rows):
    """Rows of the collection; each of `rows` says what is unusual about it."""
    usual = {
        "doc_id": "d",
        "doc_timestamp": -1,
        "uri": "a.md",
        "title": "",
        "heading_path": "",
        "text": "text",
        "page": 0,
        "start": 0,
        "end": 4,
        "vector": [0.6, 0.8],
    }
    complete = [{"chunk_id": f"k{number}", **usual, **row} for number, row in enumerate(rows)]
    return pa.RecordBatch.from_pylist(complete, SCHEMA)


def test_rows_that_may_be_written_pass_unchanged():
    rows = batch({}, {"text": "é" * 32_767}, {"uri": "x" * 65_535})
    assert checked(rows, 2).equals(rows)


def test_other_widths_of_the_same_types_are_cast():
    rows = batch({})
    wide = rows.set_column(6, "text", rows.column("text").cast(pa.large_string()))
    wide = wide.set_column(7, "page", rows.column("page").cast(pa.int32()))
    assert checked(wide, 2).equals(rows)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"vector": [NAN, 1.0]}, "NaN or infinity"),
        ({"vector": [INFINITY, 1.0]}, "NaN or infinity"),
        ({"vector": [None, 1.0]}, "NaN or infinity"),
        ({"vector": [1.0]}, "has not 2 numbers"),
        ({"vector": [1.0, 0.0, 0.0]}, "has not 2 numbers"),
        ({"vector": None}, "vector is null"),
        ({"doc_timestamp": None}, "doc_timestamp is null"),
        ({"text": "é" * 32_768}, "text has more than 65,535 bytes"),
        ({"doc_id": "d" * 65}, "doc_id has more than 64 bytes"),
        ({"chunk_id": "k0"}, "key comes more than once"),
    ],
)
def test_a_row_that_may_not_be_written_is_refused_by_its_key(row, what):
    with pytest.raises(MilvusError, match=f"{what} .chunk_id {row.get('chunk_id', 'k1')}"):
        checked(batch({}, row, {}), 2)


def test_one_length_too_long_and_one_too_short_do_not_make_up_for_each_other():
    with pytest.raises(MilvusError, match="2 rows"):
        checked(batch({"vector": [1.0]}, {"vector": [1.0, 0.0, 0.0]}), 2)


def test_nothing_passes_as_nothing():
    assert checked(batch(), 2).num_rows == 0


def test_rows_for_a_request_keep_their_columns_and_vectors():
    [piece] = entities(batch({"vector": [1.0, 0.0]}, {"vector": [0.0, 1.0]}))
    assert [row["chunk_id"] for row in piece] == ["k0", "k1"]
    assert np.array([row["vector"] for row in piece]).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_large_batch_becomes_several_requests():
    pieces = list(entities(batch(*[{"text": "x" * 65_000} for _ in range(300)])))
    assert [len(piece) for piece in pieces] == [100, 100, 100]
