import pyarrow as pa
import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.transfer import raise_problems
from lakevec.jobs.vectors import patch
from lakevec.jobs.vectors.connection import MilvusAddress
from lakevec.jobs.vectors.patch import RANGE, upsert_in_task
from lakevec.jobs.vectors.patience import is_transient
from lakevec.jobs.vectors.rows import SCHEMA
from pymilvus import MilvusException
from pyspark.sql import Row

WORDS = ("chunk_id", "doc_id", "uri", "title", "heading_path", "text")
NUMBERS = ("doc_timestamp", "page", "start", "end")


def batch(number: float) -> pa.RecordBatch:
    row = {**dict.fromkeys(WORDS, "word"), **dict.fromkeys(NUMBERS, 1), "vector": [number, 0.0]}
    return pa.RecordBatch.from_pylist([row], SCHEMA).append_column(RANGE, pa.array(["2020"]))


@pytest.mark.parametrize(
    ("number", "code", "is_away"), [(1.0, 2, True), (1.0, 65_535, False), (float("nan"), 2, False)]
)
def test_a_task_tells_what_stopped_it_and_reads_its_rows_to_the_end(monkeypatch, number, code, is_away):
    class Failing:
        def upsert(self, *_, **__):
            raise MilvusException(code, "")

    monkeypatch.setattr(patch, "connect", lambda _: Failing())
    batches = iter([batch(number)] * 3)

    told = [
        row
        for each in upsert_in_task(MilvusAddress("http://nowhere"), "passages", {"2020": "p2020_g1"}, 2, batches)
        for row in each.to_pylist()
    ]

    assert [row["is_away"] for row in told] == [is_away]
    assert told[0]["problem"]
    assert next(batches, None) is None
    with pytest.raises(MilvusError) as raised:
        raise_problems([Row(rows=1, problem=None, is_away=False), Row(**told[0])])
    assert is_transient(raised.value) == is_away
