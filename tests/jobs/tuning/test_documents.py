from types import SimpleNamespace

import numpy as np
import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.tuning.documents import Documents
from lakevec.jobs.tuning.query_sets import QuerySet


@pytest.fixture
def lake(spark):
    """Passages p1 and p2, of /s/a/1.txt and /s/b/2.md, and p3 of /s/c/2.txt."""
    rows = spark.createDataFrame(
        [("p1", "/s/a/1.txt"), ("p2", "/s/b/2.md"), ("p3", "/s/c/2.txt")], "chunk_id string, uri string"
    )
    return SimpleNamespace(tables=SimpleNamespace(read=lambda *_: rows))


def judged(judgements: dict) -> QuerySet:
    ids = list(judgements)
    return QuerySet("questions", ids, np.eye(len(ids)), [None] * len(ids), "d", "here", judgements)


def test_questions_that_name_a_document_differently_both_find_it(lake):
    documents = Documents(lake, 1, judged({"by uri": {"/s/a/1.txt": 1}, "by stem": {"1": 1}, "gone": {"9": 1}}))
    found = documents.quality([["p1"], ["p2", "p1"], ["p1"]])
    assert {question: each["mrr_at_10"] for question, each in found.items()} == {"by uri": 1, "by stem": 0.5, "gone": 0}
    assert documents.missing == ["9"]


def test_judgements_of_which_the_lake_has_no_document_are_refused_with_the_names_that_it_knows(lake):
    with pytest.raises(
        ConfigurationError, match=r"none of the 2 judged documents, such as '8'.* uri, such as '/s/a/1.txt'"
    ):
        Documents(lake, 1, judged({"q": {"9": 1, "8": 2}}))


def test_a_judgement_that_two_documents_may_be_meant_by_is_refused(lake):
    with pytest.raises(ConfigurationError, match=r"'2' is judged.* /s/b/2.md and /s/c/2.txt"):
        Documents(lake, 1, judged({"q": {"2": 1}}))
