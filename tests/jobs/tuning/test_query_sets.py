import numpy as np
from lakevec.jobs.tuning.query_sets import QuerySet, held_out, judgements
from lakevec.jobs.tuning.questions import Question
from structlog.testing import capture_logs


def test_sampled_passages_are_held_out_for_every_set_and_none_is_its_own_answer_any_more():
    passages = QuerySet("sampled", ["a", "b"], np.eye(2), ["a", "b"], "1", "here")
    questions = QuerySet("questions", ["q"], np.eye(1, 2), [None], "2", "there")

    sets, ids = held_out([passages, questions])

    assert ids == ["a", "b"]
    assert [list(each.own) for each in sets] == [[None, None], [None]]
    assert [each.digest for each in sets] == ["1", "2"]


def test_a_question_without_a_relevant_document_is_not_judged_and_that_is_told():
    """Whatever is found, its nDCG would be 0."""
    questions = [Question("a", "?", {"x": 0, "y": 2}), Question("b", "?", {"x": 0}), Question("c", "?")]
    with capture_logs() as lines:
        assert judgements(questions) == {"a": {"x": 0, "y": 2}}
    assert [(line["event"], line["questions"]) for line in lines] == [("tune.not_judged", 1)]
    with capture_logs() as lines:
        judgements([questions[0], questions[2]])
    assert lines == []
