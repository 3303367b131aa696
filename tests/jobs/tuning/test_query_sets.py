from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from lakevec.jobs.tuning.query_sets import QuerySet, held_out, judgements, sampled, sparing
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


def test_of_a_partition_that_is_indexed_no_more_is_held_out_than_leaves_it_so():
    rows_of = {"less": 1023, "least": 1024, "more": 1026}
    chosen = ["more", "least", "less", "more", "more", "less"]
    assert sparing(chosen, rows_of) == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("rows_of", "taken"),
    [
        ({"large": 3000, "more": 1030, "least": 1024}, {"more": 6, "least": 0}),
        # 46 decide nothing.
        ({"more": 1070}, {"more": 107}),
    ],
)
def test_a_partition_that_would_lose_its_index_is_spared_as_long_as_enough_queries_are_left(spark, rows_of, taken):
    rows = [(f"{name} {number}", name, [1.0]) for name, rows in rows_of.items() for number in range(rows)]
    table = spark.createDataFrame(rows, "chunk_id string, partition string, vector array<float>")
    lake = SimpleNamespace(tables=SimpleNamespace(read=lambda *_: table))

    queries = sampled(lake, 1, 1000, 0)

    assert 100 < len(queries) <= len(rows) // 10
    assert len(queries) == len(set(queries.ids)) == len(queries.vectors)
    found = Counter(key.split()[0] for key in queries.ids)
    assert {name: found[name] for name in taken} == taken
