from lakevec.jobs.tuning.budget import Turns
from lakevec.jobs.tuning.grid import Setting

BUILDS = [Setting(kind, {"n": number}) for kind in "ABCD" for number in range(3)]


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def carried_out(minutes, seconds_of, score_of):
    clock = Clock()
    turns = Turns(BUILDS, seconds_of, minutes, clock)
    tried = []
    while build := turns.next():
        clock.now += seconds_of(build)
        tried.append(f"{build.type}{build.build['n']}")
        turns.told(build, (score_of[build.type] + build.build["n"],))
    return tried, turns.untried


def test_without_a_budget_everything_is_built_in_its_order():
    tried, untried = carried_out(None, lambda _: 1e9, dict.fromkeys("ABCD", 0))
    assert tried == [f"{build.type}{build.build['n']}" for build in BUILDS]
    assert untried == []


def test_with_a_budget_every_type_is_tried_once_and_the_better_half_again():
    seconds = {"A": 4, "B": 3, "C": 2, "D": 1}
    tried, untried = carried_out(60, lambda build: seconds[build.type], {"A": 1, "B": 9, "C": 5, "D": 0})

    # B and C are better than A and D, and B than C; what is left is not left out while it fits.
    assert tried == ["D0", "C0", "B0", "A0", "B1", "C1", "B2", "C2", "A1", "A2", "D1", "D2"]
    assert untried == []


def test_a_type_with_nothing_left_takes_no_turn_from_the_others():
    """FLAT, the best, has one build alone."""
    builds = [Setting("FLAT"), *(Setting("HNSW", {"M": number}) for number in (8, 16, 32, 64))]
    turns = Turns(builds, lambda _: 30.0, 120, Clock())
    tried = []
    while build := turns.next():
        tried.append(build)
        turns.told(build, (1.0 if build.type == "FLAT" else 0.5,))
    assert tried == builds


def test_a_type_that_could_not_be_measured_comes_last():
    builds = [Setting(kind, {"n": number}) for kind in "AB" for number in (0, 1)]
    turns = Turns(builds, lambda _: 1.0, 60, Clock())
    tried = []
    while build := turns.next():
        tried.append(f"{build.type}{build.build['n']}")
        if build.type == "B":
            turns.told(build, (0.1,))
    assert tried == ["A0", "B0", "B1", "A1"]


def test_when_no_more_can_be_measured_all_that_waits_is_left_with_the_reason():
    turns = Turns(BUILDS, lambda _: 1.0)
    turns.next()
    turns.leave_all("the server is busy")
    assert turns.next() is None
    assert {each.reason for each in turns.untried} == {"not tried: the server is busy"}
    assert len(turns.untried) == len(BUILDS) - 1


def test_what_does_not_fit_is_left_with_its_estimate():
    seconds = {"A": 1000, "B": 20, "C": 20, "D": 20}
    tried, untried = carried_out(1, lambda build: seconds[build.type], dict.fromkeys("ABCD", 0))

    assert tried == ["B0", "C0", "D0"]
    assert "about 1,000 s, and 0 s were left" in next(each.reason for each in untried if each.index_type == "A")
    assert all("within 1 minutes" in each.reason for each in untried)
