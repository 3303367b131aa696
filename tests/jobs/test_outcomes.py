from datetime import UTC, datetime, timedelta

from lakevec.jobs.outcomes import later_moments

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)


def test_only_a_file_that_is_known_from_later_than_now_has_a_later_moment():
    piece = [{"uri": "a", "known_seen_at": TOMORROW}, {"uri": "b", "known_seen_at": NOON - timedelta(days=1)}]
    piece += [{"uri": "c", "known_seen_at": None}, {"uri": "d", "known_seen_at": NOON}]

    later = later_moments(piece, NOON)

    assert sorted(later) == ["a", "d"]
    assert later["a"] > TOMORROW
    assert later["d"] > NOON
