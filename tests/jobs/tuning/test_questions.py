import json

import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.tuning.questions import Question, documents_named, read_questions


def test_a_line_is_a_question_with_graded_documents_or_without(tmp_path):
    rows = [{"query": "why", "relevant": {"a/b.md": 2}}, {"id": 7, "text": "who", "relevant": ["c"]}, {"question": "x"}]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n\n".join(map(json.dumps, rows)))

    assert read_questions(str(file)) == [
        Question("1", "why", {"a/b.md": 2}),
        Question("7", "who", {"c": 1}),
        Question("5", "x"),
    ]


def test_of_a_folder_in_beir_s_layout_the_judged_questions_are_asked(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "why"}\n{"_id": "2", "text": "who"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n2\t184\t3\n2\t29\t1\n")

    assert read_questions(str(tmp_path)) == [Question("2", "who", {"184": 3, "29": 1})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no question"),
        ("{", "line 1: this is no JSON"),
        ('{"query": "a", "relevant": {"b": "much"}}', "whole grades"),
        ('{"query": " "}', "question 1: it has no text"),
        ('{"id": 1, "query": "a"}\n{"id": 1, "query": "b"}', "the same id"),
    ],
)
def test_what_is_no_question_is_refused_with_its_place(tmp_path, text, message):
    file = tmp_path / "questions.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_questions(str(file))


def test_a_document_is_named_by_its_uri_the_end_of_its_path_or_its_file_s_name():
    uris = ["/s/a/1.md", "/s/b/2.md", "/s/c/3.md", "/s/d/4.md"]
    assert documents_named(["/s/a/1.md", "b/2.md", "3", "5"], uris) == {
        "/s/a/1.md": "/s/a/1.md",
        "/s/b/2.md": "b/2.md",
        "/s/c/3.md": "3",
    }
