import pytest
from lakevec.jobs.lake import known_texts
from lakevec.jobs.lake.changes import keys_of
from lakevec.jobs.lake.known_texts import KnownTexts
from lakevec.jobs.lake.tables import VECTORS
from lakevec.udfs.keys import content_hash

A, B, C, D = (content_hash(name) for name in "abcd")
# Begins as D does.
LIKE_D = D[:-1] + ("0" if D[-1] != "0" else "1")


@pytest.fixture
def vectors(lakehouse):
    tables = lakehouse.lake().tables

    def write(*hashes, model="m"):
        rows = [(each, model, [1.0]) for each in hashes]
        tables.append(VECTORS, lakehouse.spark.createDataFrame(rows, VECTORS.schema))

    return tables, write


def test_known_are_the_texts_of_the_table_and_those_written_since(vectors, lakehouse, monkeypatch):
    tables, write = vectors
    read = []
    monkeypatch.setattr(KnownTexts, "now", property(lambda self, now=KnownTexts.now.fget: read.append(1) or now(self)))

    def keys(*hashes):
        return keys_of(
            lakehouse.spark.createDataFrame([(each,) for each in hashes], "content_hash string"), "content_hash"
        )

    write(A, LIKE_D)
    write(B, model="another")
    known = KnownTexts(tables, "m")
    assert [known.among(keys(A, B, D)) for _ in range(2)] == [{A}, {A}]
    assert len(read) == 3
    # From now on the table is asked only for what is like something in it.
    assert known.among(keys(B, C)) == set()
    assert len(read) == 3
    assert known.among(keys(A, B, C)) == {A}
    assert known.among(keys(D)) == set()
    assert len(read) == 5

    write(B, C)
    known.add({B, C})
    assert known.among(keys(B, C)) == {B, C}
    assert len(read) == 5
    # So many that none is told.
    write(D)
    known.add(None)
    assert known.among(keys(A, B, C, D)) == {A, B, C, D}


def test_a_table_of_too_many_texts_is_asked_each_time(vectors, lakehouse, monkeypatch):
    tables, write = vectors
    monkeypatch.setattr(known_texts, "MOST_REMEMBERED", 1)
    write(A, B)
    known = KnownTexts(tables, "m")
    keys = keys_of(lakehouse.spark.createDataFrame([(A,), (C,)], "content_hash string"), "content_hash")
    assert [known.among(keys) for _ in range(4)] == [{A}] * 4
    assert known.remembered is None
