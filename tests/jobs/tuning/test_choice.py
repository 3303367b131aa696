from dataclasses import replace

from lakevec.jobs.tuning.choice import Candidate, Promise, choose, frontier, why_not
from lakevec.jobs.tuning.grid import Setting
from lakevec.jobs.tuning.measures import Interval


def candidate(name, low, qps, p99_ms=5.0, memory=100):
    return Candidate(Setting(name), Interval(low + 0.01, low, low + 0.02), p99_ms, qps, memory)


FAST = candidate("FAST", 0.90, 900)
GOOD = candidate("GOOD", 0.96, 500, p99_ms=8)
SLOW = candidate("SLOW", 0.98, 100, memory=900)
ALL = [FAST, GOOD, SLOW]


def test_the_fastest_whose_lower_bound_meets_the_target_is_chosen():
    choice = choose(ALL, Promise(0.95))
    assert (choice.candidate, choice.kept) == (GOOD, True)
    assert "fastest of 2 settings" in choice.why
    # 0.91 at the mean is not enough where 0.90 is possible.
    assert choose(ALL, Promise(0.905)).candidate == GOOD


def test_latency_and_memory_are_limits():
    assert choose(ALL, Promise(0.95, p99_ms=6)).candidate == SLOW
    assert choose(ALL, Promise(0.80, memory=500)).candidate == FAST


def test_where_none_keeps_the_promise_the_best_recall_is_chosen_and_that_is_said():
    choice = choose(ALL, Promise(0.99))
    assert (choice.candidate, choice.kept) == (SLOW, False)
    assert choice.why.startswith("No setting keeps recall@10 of at least 0.99. ")
    within = choose(ALL, Promise(0.99, memory=500))
    assert within.candidate == GOOD
    nothing = choose(ALL, Promise(0.99, p99_ms=1))
    assert (nothing.candidate, nothing.kept) == (SLOW, False)
    assert "none is within its limits" in nothing.why
    assert choose([], Promise(0.9)) is None


def test_few_queries_promise_nothing_and_that_is_said():
    few = [replace(each, recall=replace(each.recall, few=True)) for each in ALL]
    choice = choose(few, Promise(0.5))
    assert (choice.candidate, choice.kept) == (few[2], False)
    assert choice.why.startswith("The query sets are too small to promise anything: one of them needs 50 queries")
    assert "Within the limits, SLOW has the best recall@10" in choice.why
    assert choose(few, Promise(0.5, memory=500)).candidate == few[1]
    assert why_not(few[0], few[2], Promise(0.5)) == "too few queries were asked to promise anything"


def test_the_frontier_leaves_out_what_another_beats_in_both():
    worse = candidate("WORSE", 0.95, 400)
    assert frontier([*ALL, worse]) == [FAST, GOOD, SLOW]
    assert frontier([*ALL, worse], by_memory=True) == [GOOD, SLOW]


def test_each_of_the_others_has_its_reason():
    promise = Promise(0.95, p99_ms=6, memory=500)
    reasons = [why_not(each, SLOW, promise) for each in (FAST, GOOD, SLOW, candidate("BIG", 0.97, 50, memory=501))]
    assert reasons == [
        "its recall may be as low as 0.9000",
        "1 of 100 searches takes 8.0 ms or more",
        "",
        "it takes 501 bytes",
    ]
    assert why_not(SLOW, GOOD, Promise(0.95)) == "it is slower: 100 searches/s"
