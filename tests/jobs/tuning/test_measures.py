import numpy as np
import pytest
from lakevec.jobs.tuning.measures import (
    LEAST_DECIDING,
    Neighbours,
    answer_quality,
    averages,
    interval,
    ranked_documents,
    recalls,
)

FOUR = Neighbours(["a", "b", "c", "d"], [0.9, 0.8, 0.8, 0.8])


def test_any_row_as_near_as_the_last_may_have_its_place():
    assert recalls([["a", "d"], ["a", "x"]], [FOUR] * 2, 2).tolist() == [1.0, 0.5]


def test_rows_that_tie_with_the_last_do_not_stand_for_a_nearer_one():
    assert recalls([["d", "c"]], [FOUR], 2).tolist() == [0.5]
    twenty = [str(number) for number in range(20)]
    truth = Neighbours(["a", "b", *twenty], [1.0, 0.9] + 20 * [0.8])
    found = [twenty[:10], ["a", *twenty[:9]], ["a", "b", *twenty[:8]]]
    assert recalls(found, [truth] * 3, 10).tolist() == [0.8, 0.9, 1.0]


def test_only_the_first_k_that_were_found_count():
    assert recalls([["x", "a"]], [FOUR], 1).tolist() == [0.0]


def test_where_there_are_fewer_rows_than_k_all_of_them_are_asked_for():
    assert recalls([["a", "b", "c"]], [FOUR], 10).tolist() == [0.75]


def test_the_interval_is_the_bootstrap_s_and_the_same_for_the_same_seed():
    values = np.repeat([0.5, 1.0], [200, 800])
    found = interval(values, 7)

    # The normal approximation of the same: 0.2 / sqrt(1000) on both sides, times 1.96.
    assert found.mean == pytest.approx(0.9)
    assert (found.low, found.high) == pytest.approx((0.9 - 0.0124, 0.9 + 0.0124), abs=0.001)
    assert found == interval(values, 7)


def test_where_no_query_misses_anything_others_still_may():
    """As likely as 1 in 40: 60 queries without a miss, where 6% miss one of ten answers."""
    found = interval(np.ones(60), 1, step=0.1)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert (1 - (1 - found.low) / 0.1) ** 60 == pytest.approx(0.025)
    assert interval(np.zeros(3), 1).low == 0.0
    assert 0 < interval(np.zeros(3), 1).high < 1
    # One miss more makes no better bound.
    assert interval(np.array([*[1.0] * 999, 0.9]), 1, step=0.1).low < interval(np.ones(1000), 1, step=0.1).low + 1e-4


@pytest.mark.parametrize("value", [1.0, [0.5, 1.0]])
def test_the_ends_of_an_interval_of_few_queries_bound_nothing(value):
    assert interval(np.resize(value, LEAST_DECIDING - 1), 1).few
    assert not interval(np.resize(value, LEAST_DECIDING), 1).few


def test_ninety_five_of_a_hundred_intervals_hold_the_true_recall():
    random = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        found = interval(random.binomial(10, 0.93, 500) / 10, 3)
        inside += found.low <= 0.93 <= found.high
    assert inside / 400 == pytest.approx(0.95, abs=0.025)


def test_a_document_counts_once_by_its_best_passage():
    assert ranked_documents(["1", "2", "3", "?"], {"1": "b.md", "2": "a.md", "3": "b.md"}) == ["b.md", "a.md"]


def test_answers_are_measured_by_graded_judgements_and_a_question_without_answers_counts_as_zero():
    judged = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}, "q3": {"d": 1}}
    found = answer_quality({"q1": ["b", "a"], "q2": ["x", "c"]}, judged)

    ideal = 2 + 1 / np.log2(3)
    assert found["q1"] == pytest.approx({"ndcg_at_10": (1 + 2 / np.log2(3)) / ideal, "mrr_at_10": 1, "hit_at_10": 1})
    assert found["q2"] == pytest.approx({"ndcg_at_10": 1 / np.log2(3), "mrr_at_10": 0.5, "hit_at_10": 1})
    assert averages(found)["mrr_at_10"] == pytest.approx(0.5)
