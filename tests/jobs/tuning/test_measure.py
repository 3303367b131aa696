import numpy as np
import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.tuning.grid import Setting
from lakevec.jobs.tuning.measure import CLIENTS, Judged, answerable, exact_share, flattered, measure
from lakevec.jobs.tuning.measures import LEAST_DECIDING, Neighbours
from lakevec.jobs.tuning.query_sets import QuerySet
from lakevec.jobs.tuning.truth import DEEPEST
from lakevec.udfs.nearest import MOST_TIES, Nearest

ROWS, DIMENSION = 400, 16


@pytest.fixture(scope="module")
def base():
    vectors = np.random.default_rng(1).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def judged(base, numbers, own=True) -> Judged:
    keys = [str(number) for number in numbers]
    mine = keys if own else [None] * len(keys)
    nearest = Nearest(base[numbers], mine, 100)
    nearest.add([str(number) for number in range(ROWS)], base)
    truth = [Neighbours(names.tolist(), scores.tolist()) for _, scores, names in nearest.found()]
    name = "sampled" if own else "questions"
    return Judged(QuerySet(name, keys, base[numbers], mine, "d", "here"), truth)


def searching(base, known, noise=0.0):
    """Searches the first `known` rows, with scores that are off by `noise`."""

    def search(vectors, limit, params):
        assert limit <= params.get("ef", limit)
        scores = np.asarray(vectors, np.float32) @ base[:known].T
        best = np.argsort(-scores, axis=1)[:, :limit]
        return [[(str(key), float(scores[row, key]) + noise) for key in keys] for row, keys in enumerate(best)]

    return search


def test_exact_search_finds_everything_and_no_query_its_own_passage(base):
    sets = [judged(base, [3, 5, 8]), judged(base, [1, 2], own=False)]
    found = measure(searching(base, ROWS), Setting("HNSW", {"M": 8}, {"ef": 128}), sets, 0, 0.0)

    assert {depth: each.mean for depth, each in found.answers["sampled"].intervals.items()} == {1: 1, 10: 1, 100: 1}
    assert all(key not in ids for key, ids in zip("358", found.answers["sampled"].ids, strict=True))
    assert found.answers["questions"].ids[0][0] == "1"
    assert found.answers["sampled"].exact_share == 1.0
    assert found.wrong is None
    assert set(found.qps) == {1, CLIENTS}
    assert 0 < found.quantile(50) <= found.p99_ms


def test_a_handful_of_questions_decides_nothing_beside_a_larger_set(base):
    few, many = (judged(base, [*range(200, 200 + count)], own=False) for count in (LEAST_DECIDING - 1, LEAST_DECIDING))
    sets = [judged(base, [*range(60)]), few]
    half = Setting("IVF_FLAT", {}, {"nprobe": 4})
    found = measure(searching(base, ROWS // 2), half, sets, 0, 0.0)
    assert found.deciding == found.answers["sampled"].intervals[10]
    assert not found.deciding.few
    assert found.answers["questions"].intervals[10].low < found.deciding.low
    alone = measure(searching(base, ROWS // 2), half, [few], 0, 0.0).deciding
    assert alone.few
    assert alone.mean < 1
    found = measure(searching(base, ROWS // 2), half, [sets[0], many], 0, 0.0)
    assert found.deciding.low == min(each.intervals[10].low for each in found.answers.values())


def test_what_takes_other_parameters_is_not_measured_as_this_setting(base):
    found = measure(searching(base, ROWS), Setting("HNSW", {"M": 8}, {"ef": 16}), [judged(base, [3, 5])], 0, 0.0)
    assert set(found.answers["sampled"].intervals) == {1, 10}


def test_what_is_not_found_is_missing_in_recall(base):
    found = measure(
        searching(base, ROWS // 2), Setting("IVF_FLAT", {}, {"nprobe": 4}), [judged(base, [*range(40)])], 0, 0
    )
    each = found.answers["sampled"].intervals[10]
    assert 0.35 < each.low < each.mean < each.high < 0.65


def test_a_quantised_index_with_exact_scores_is_invalid(base):
    coded = Setting("IVF_SQ8", {"nlist": 16}, {"nprobe": 4})
    sets = [judged(base, [1, 2, 3])]
    assert "100% of its scores are exact" in measure(searching(base, ROWS), coded, sets, 0, 0.0).wrong
    assert measure(searching(base, ROWS, noise=1e-3), coded, sets, 0, 0.0).wrong is None
    # Rows in segments too small for an index are searched exactly, and rightly so.
    assert flattered(coded, 0.6, 0.5) is None
    assert flattered(coded, 0.8, 0.5)
    assert flattered(Setting("HNSW_SQ", {"refine": 1}, {}), 1.0, 0.0) is None
    assert flattered(Setting("IVF_FLAT"), 1.0, 0.0) is None
    assert flattered(Setting("SCANN", {"with_raw_data": 0}, {}), 1.0, 0.0)
    assert flattered(Setting("SCANN", {"with_raw_data": 1}, {}), 1.0, 0.0) is None


def test_the_share_of_exact_scores_is_of_hits_that_exact_search_has():
    truth = [Neighbours(["a", "b"], [0.9, 0.8])]
    assert exact_share([[("a", 0.9), ("b", 0.79), ("x", 0.7)]], truth) == 0.5
    assert exact_share([[]], truth) == 0.0


def test_a_query_to_which_too_many_rows_are_equally_near_is_left_out(base):
    before = judged(base, [3, 5, 8])
    many = Neighbours(["x"] * (DEEPEST + MOST_TIES), [1.0] * (DEEPEST + MOST_TIES))

    found = answerable(before.queries, [before.truth[0], many, before.truth[2]])

    assert (found.queries.ids, found.queries.own) == (["3", "8"], ["3", "8"])
    assert np.array_equal(found.queries.vectors, base[[3, 8]])
    assert found.truth == [before.truth[0], before.truth[2]]
    with pytest.raises(ConfigurationError, match="equally near to each query of the set sampled"):
        answerable(before.queries, [many] * 3)
