from lakevec.jobs.lake import known_texts
from lakevec.jobs.lake.changes import keys_of
from lakevec.jobs.lake.known_texts import KnownTexts
from lakevec.jobs.lake.tables import VECTORS


def test_known_are_the_texts_of_the_table_and_those_written_since(lakehouse, monkeypatch):
    tables, spark = lakehouse.lake().tables, lakehouse.spark
    chunks = keys_of(spark.createDataFrame([(name,) for name in "abcd"], "content_hash string"), "content_hash")

    def write(*names, model="m"):
        rows = [(name, model, [1.0]) for name in names]
        tables.append(VECTORS, spark.createDataFrame(rows, VECTORS.schema))

    write("a")
    write("b", model="another")
    known = KnownTexts(tables, "m")
    assert known.among(chunks) == {"a"}
    write("b", "x")
    known.add({"b", "x"})
    assert known.among(chunks) == {"a", "b"}
    # Written by many, which are not told: the table is asked.
    write("c")
    known.add(None)
    assert known.among(chunks) == {"a", "b", "c"}
    monkeypatch.setattr(known_texts, "MOST_WRITTEN", 0)
    write("d")
    known.add({"x"})
    assert known.among(chunks) == {"a", "b", "c", "d"}
    assert known.among(keys_of(spark.createDataFrame([], "content_hash string"), "content_hash")) == set()
