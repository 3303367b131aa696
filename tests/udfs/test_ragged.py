import numpy as np
from lakevec.udfs.ragged import Ragged, places_within

ROWS = [[5, 6, 7], [], [8], [9, 10]]


def rows_of(ragged):
    return [part.tolist() for part in np.split(ragged.values, ragged.starts[1:-1])]


def test_rows_are_laid_one_after_another():
    ragged = Ragged.of(ROWS)
    assert ragged.values.tolist() == [5, 6, 7, 8, 9, 10]
    assert ragged.starts.tolist() == [0, 3, 3, 4, 6]
    assert rows_of(ragged) == ROWS


def test_rows_are_taken_in_any_order_and_any_number_of_times():
    assert rows_of(Ragged.of(ROWS).take(np.array([3, 1, 0, 3]))) == [[9, 10], [], [5, 6, 7], [9, 10]]
    assert len(Ragged.of([]).take(np.array([], int)).values) == 0


def test_neighbours_and_replaced_rows():
    assert rows_of(Ragged.of(ROWS).slice(1, 3)) == [[], [8]]
    assert rows_of(Ragged.of(ROWS).replaced([1, 3], [[1, 2], []])) == [[5, 6, 7], [1, 2], [8], []]


def test_places_begin_anew_in_each_row():
    assert places_within(np.array([3, 0, 1, 2])).tolist() == [0, 1, 2, 0, 0, 1]
    assert places_within(np.array([], int)).tolist() == []
