import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lakevec.udfs import nearest
from lakevec.udfs.nearest import TIE, Nearest, nearest_in_task


def unit(rows, dimension, seed):
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_sorting(base, queries, own, k):
    """Keys of each query's k best, and of all that tie with the last: all scores, sorted."""
    found = []
    for query, mine in zip(queries, own, strict=True):
        scores = {str(key): float(query @ vector) for key, vector in enumerate(base) if str(key) != mine}
        best = sorted(scores.values(), reverse=True)[:k]
        found.append({key for key, score in scores.items() if score >= best[-1] - TIE})
    return found


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(1, 300),
    k=st.integers(1, 20),
    piece=st.integers(1, 120),
    seed=st.integers(0, 99),
    sizes=st.tuples(st.integers(1, 200), st.integers(1, 6), st.integers(1, 5)),
)
def test_blocks_give_what_sorting_all_scores_gives(rows, k, piece, seed, sizes):
    base, queries = unit(rows, 8, seed), unit(5, 8, seed + 1000)
    # Equal rows tie, and the last query has a third of all rows at once.
    base[: rows // 3] = base[0]
    queries[4] = base[0]
    own = ["0", None, str(rows - 1), None, "0"]
    with pytest.MonkeyPatch.context() as patched:
        for name, size in zip(("BLOCK_ROWS", "BLOCK_QUERIES", "SPARE"), sizes, strict=True):
            patched.setattr(nearest, name, size)
        found = Nearest(queries, own, k)
        for first in range(0, rows, piece):
            found.add([str(key) for key in range(first, min(rows, first + piece))], base[first : first + piece])
        found.search_block()

    keys = {number: set(names) for number, _, names in found.found()}
    if rows > 1:
        assert [keys.get(number, set()) for number in range(5)] == by_sorting(base, queries, own, k)
    else:
        assert keys == {1: {"0"}, 3: {"0"}}


def test_small_blocks_many_ties_and_thinning_out_change_nothing(monkeypatch):
    base, queries = unit(500, 8, 1), unit(3, 8, 2)
    # A hundred rows that are equal, and nearest to the first query.
    base[100:200] = queries[0]
    monkeypatch.setattr(nearest, "BLOCK_ROWS", 60)
    monkeypatch.setattr(nearest, "SPARE", 2)
    found = Nearest(queries, ["150", None, None], 10)
    found.most_waiting = 50
    for first in range(0, 500, 25):
        found.add([str(key) for key in range(first, first + 25)], base[first : first + 25])

    keys = [set(names) for _, _, names in found.found()]
    assert keys == by_sorting(base, queries, ["150", None, None], 10)
    assert len(keys[0]) == 99


def test_rows_that_tie_with_the_last_are_all_found_where_the_query_s_own_row_is_the_nearest():
    query = unit(1, 8, 3)[0]
    others = unit(200, 8, 4)
    others -= np.outer(others @ query, query)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    # The own row, nine that are ever farther, a hundred as far as one another, ninety farther still.
    cosines = np.array([1, *np.linspace(0.99, 0.9, 9), *[0.8] * 100, *[0.1] * 90])
    base = (cosines[:, None] * query + np.sqrt(1 - cosines**2)[:, None] * others).astype(np.float32)
    found = Nearest(query[None], ["0"], 10)
    found.add([str(key) for key in range(200)], base)

    [(_, _, names)] = found.found()
    assert set(names) == {str(key) for key in range(1, 110)}


@pytest.mark.parametrize("piece", [25, 500])
def test_of_very_many_ties_some_are_kept_and_it_can_be_seen(monkeypatch, piece):
    base, query = unit(500, 8, 1), unit(1, 8, 2)
    base[100:400] = query[0]
    monkeypatch.setattr(nearest, "BLOCK_ROWS", 60)
    monkeypatch.setattr(nearest, "SPARE", 2)
    monkeypatch.setattr(nearest, "MOST_TIES", 20)
    found = Nearest(np.concatenate([query, -query]), [None, None], 10)
    for first in range(0, 500, piece):
        found.add([str(key) for key in range(first, first + piece)], base[first : first + piece])

    ties, others = [list(names) for _, _, names in found.found()]
    assert len(ties) == len(set(ties)) == 30
    assert set(ties) <= {str(key) for key in range(100, 400)}
    assert [set(others)] == by_sorting(base, -query, [None], 10)
    assert len(others) == 10


def test_a_task_gives_a_row_for_each_query_best_first():
    base = unit(40, 4, 3)
    rows = pa.RecordBatch.from_pydict({"chunk_id": [str(key) for key in range(40)], "vector": base.tolist()})
    [batch] = nearest_in_task(base[:2], ["0", "1"], 5, [rows.slice(0, 20), rows.slice(20)])

    assert batch.column("query").to_pylist() == [0, 1]
    first, second = batch.column("neighbours").to_pylist()
    assert [each["score"] for each in first] == sorted((each["score"] for each in first), reverse=True)
    assert "0" not in {each["chunk_id"] for each in first}
    assert "1" not in {each["chunk_id"] for each in second}
