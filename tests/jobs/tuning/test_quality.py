import numpy as np
from lakevec.jobs.tuning.measures import Neighbours
from lakevec.jobs.tuning.quality import with_held_out

WHOLE = Neighbours(list("abcdef"), np.arange(6, 0, -1).tolist())


def test_with_what_is_held_out_exact_search_of_the_rest_is_that_of_the_whole_table():
    for held_out in ({"a"}, {"c", "d"}, {"f", "z"}, set("abcdef"), set()):
        rest = [key for key in WHOLE.keys if key not in held_out]
        assert with_held_out(rest, WHOLE, held_out) == WHOLE.keys


def test_what_an_index_misses_or_puts_in_another_order_stays_so():
    """x is none of the nearest."""
    assert with_held_out(["d", "a", "x"], WHOLE, {"b", "e"}) == ["d", "b", "a", "e", "x"]
    assert with_held_out([], WHOLE, {"b"}) == ["b"]
