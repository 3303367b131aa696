from datetime import UTC, datetime

import numpy as np
import pytest
from lakevec.jobs.lake import freshness
from lakevec.jobs.lake.freshness import RunMetrics, merged, seconds_until, together
from lakevec.jobs.lake.tables import FILES, METRICS


def test_many_loads_put_together_keep_their_percentiles():
    chance = np.random.default_rng(7)
    loads = [
        {"documents": 40 * number, "seconds": np.sort(chance.gamma(2.0, 5.0, 40)).tolist()} for number in range(1, 60)
    ]

    one = merged(loads)

    whole, short = together(loads), together([one])
    assert len(one["seconds"]) <= 1000
    assert (short.documents, short.slowest) == (whole.documents, whole.slowest)
    for part in ("p50", "p95", "p99"):
        assert getattr(short, part) == pytest.approx(getattr(whole, part), rel=0.02)


def test_when_a_file_came_is_looked_up_only_where_it_is_not_known(spark):
    def at(second):
        return datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)

    rows = spark.createDataFrame(
        [("1", "a"), ("2", "b"), ("2", "b"), ("3", "c"), ("4", "d")], "doc_id string, uri string"
    )
    files = spark.createDataFrame([("a", at(9)), ("b", at(2)), ("c", None)], "uri string, arrived_at timestamp")

    # What is known of `a` counts, of `c` and `d` nothing is.
    assert seconds_until(at(10), rows, files, {"a": at(7).timestamp()}).tolist() == [3.0, 8.0]
    assert seconds_until(at(10), rows, files, {"b": None}).tolist() == [1.0]


def test_rows_of_loads_close_together_are_written_together(lakehouse, monkeypatch):
    monkeypatch.setattr(freshness, "MOST_ARRIVALS", 2)
    tables = lakehouse.lake().tables
    metrics = RunMetrics(tables, seconds_apart=3600)
    places = [FILES.schema.names.index(name) for name in ("uri", "arrived_at")]

    def file(uri):
        row: list = [None] * len(FILES.schema.names)
        row[places[0]], row[places[1]] = uri, datetime.now(UTC)
        return tuple(row)

    def load(uri):
        metrics.searchable(tables.spark.createDataFrame([(uri, uri)], "doc_id string, uri string"))

    metrics.arrived([file("a"), file("b"), file("c")])
    assert list(metrics.arrivals) == ["b", "c"]
    load("b")
    load("c")
    assert lakehouse.rows(METRICS, "documents") == [(1,)]
    assert metrics.freshness.documents == 2
    metrics.write()
    metrics.write()
    assert lakehouse.rows(METRICS, "documents") == [(1,), (1,)]
