import json

import pyarrow as pa
import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.tuning.questions import Question, documents_named, named_in_task, read_questions


def test_a_line_is_a_question_with_graded_documents_or_without(tmp_path):
    rows = [{"query": "why", "relevant": {"a/b.md": 2}}, {"id": 7, "text": "who", "relevant": ["c"]}, {"question": "x"}]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n\n".join(map(json.dumps, rows)))

    assert read_questions(str(file)) == [
        Question("1", "why", {"a/b.md": 2}),
        Question("7", "who", {"c": 1}),
        Question("5", "x"),
    ]


def test_a_line_ends_where_json_lines_do_and_not_within_a_text(tmp_path):
    """U+2028 and U+0085 may stand in a string as they are."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes('{"query": "one\u2028line\u0085more"}\r\n{"query": "Zürich"}\n'.encode())
    assert [each.text for each in read_questions(str(file))] == ["one\u2028line\u0085more", "Zürich"]


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


def test_tasks_give_only_the_documents_that_judgements_name():
    batches = [pa.RecordBatch.from_pydict({"uri": uris}) for uris in (["/s/1.md", None, "/s/2.md"], ["/s/4.md"])]
    found = [row for batch in named_in_task({"2", "5"}, batches) for row in batch.to_pylist()]
    assert found == [{"uri": "/s/2.md", "name": "2"}]
