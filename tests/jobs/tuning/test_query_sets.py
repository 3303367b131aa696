import numpy as np
from lakevec.jobs.tuning.query_sets import QuerySet, held_out


def test_sampled_passages_are_held_out_for_every_set_and_none_is_its_own_answer_any_more():
    passages = QuerySet("sampled", ["a", "b"], np.eye(2), ["a", "b"], "1", "here")
    questions = QuerySet("questions", ["q"], np.eye(1, 2), [None], "2", "there")

    sets, ids = held_out([passages, questions])

    assert ids == ["a", "b"]
    assert [list(each.own) for each in sets] == [[None, None], [None]]
    assert [each.digest for each in sets] == ["1", "2"]
