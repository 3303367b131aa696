from datetime import UTC, datetime, timedelta

from lakevec.jobs.lake.tables import FILES
from lakevec.jobs.outcomes import file_actions, later_moments

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)


def test_only_a_file_that_is_known_from_later_than_now_has_a_later_moment():
    piece = [{"uri": "a", "known_seen_at": TOMORROW}, {"uri": "b", "known_seen_at": NOON - timedelta(days=1)}]
    piece += [{"uri": "c", "known_seen_at": None}, {"uri": "d", "known_seen_at": NOON}]

    later = later_moments(piece, NOON)

    assert sorted(later) == ["a", "d"]
    assert later["a"] > TOMORROW
    assert later["d"] > NOON


def test_bytes_that_cannot_be_had_leave_those_known_that_were_had_last():
    """A message of the file was forgotten: the file may come back under another name."""
    file = {"uri": "a.mbox", "change": "changed", "last_hash": "h1", "attempts": None, "known_parsed_at": NOON}
    outcome = {
        **dict.fromkeys(("size", "modified_at", "hash", "documents")),
        "uri": "a.mbox",
        "state": "quarantined",
        "forgotten": ["d1"],
        "error_stage": "read",
        "error_class": "PermissionError",
        "error_message": "not now",
    }
    read = {**outcome, "hash": "h2", "error_stage": "parse"}

    rows = file_actions([outcome, read], set(), [{**file, "known_documents": 2}], None, None, NOON, {})

    names = [*FILES.schema.names, "action"]
    assert [dict(zip(names, row, strict=True))["hash"] for row in rows] == ["h1", "h2"]
