from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from lakevec.jobs import differences
from lakevec.jobs.differences import Differing, unlike
from lakevec.jobs.lake.listing import SCHEMA

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ROWS = [
    ("a", "gone", NOON),
    ("b", "new", NOON),
    ("é", "changed", NOON + timedelta(microseconds=1)),
    ("d", "new", NOON - timedelta(days=1)),
    ("c", "unread", NOON),
    ("e", "new", NOON + timedelta(hours=1)),
]


@pytest.mark.parametrize("few", [1_000, 6, 5])
def test_files_are_taken_in_newest_first_and_piece_by_piece_be_they_few_or_many(spark, monkeypatch, few):
    monkeypatch.setattr(differences, "FEW", few)
    differing = Differing.of(spark.createDataFrame(ROWS, "uri string, change string, modified_at timestamp"))

    pieces, last = [], None
    while piece := differing.newest(2, last):
        pieces.append([row["uri"] for row in piece])
        last = piece[-1]

    assert (differing.few is None) == (few == 5)
    assert pieces == [["e", "é"], ["b", "c"], ["d"]]
    assert (differing.number, differing.gone, differing.waiting) == (
        {"gone": 1, "new": 3, "changed": 1, "unread": 1},
        1,
        5,
    )


def test_no_file_differs(spark):
    differing = Differing.of(spark.createDataFrame([], "uri string, change string, modified_at timestamp"))
    assert (differing.gone, differing.waiting, differing.newest(2, None)) == (0, 0, [])


def test_of_two_listings_what_came_went_or_changed_is_unlike():
    def listing(*files):
        return pa.Table.from_pylist([dict(zip(SCHEMA.names, file, strict=True)) for file in files], SCHEMA)

    before = listing(("same", 1, NOON), ("gone", 1, NOON), ("larger", 1, NOON), ("touched", 1, NOON))
    later = NOON + timedelta(microseconds=1)
    after = listing(("new", 1, NOON), ("touched", 1, later), ("larger", 2, NOON), ("same", 1, NOON))

    assert unlike(before, after) == unlike(after, before) == {"gone", "larger", "touched", "new"}
    assert unlike(before, before) == set()
    assert unlike(before, listing()) == set(before["uri"].to_pylist())
