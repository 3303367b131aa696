import json

import pyarrow as pa
import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.tuning.questions import (
    Question,
    documents_named,
    judged_by_uri,
    named_in_task,
    one_document_each,
    read_questions,
)
from structlog.testing import capture_logs


def test_a_line_is_a_question_with_graded_documents_or_without(tmp_path):
    rows = [
        {"query": "why", "relevant": {"a/b.md": 2}},
        {"id": 7, "text": "who", "relevant": ["c"]},
        {"question": "x", "metadata": {"by": "Ann"}},
    ]
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


def test_judgements_of_questions_that_are_not_there_are_told(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "why"}')
    long = "x" * 200_000
    (tmp_path / "qrels" / "test.tsv").write_text(f'1\t"29\t1\n17\t29\t1\n1\t{long}\t1\n')

    with capture_logs() as lines:
        assert read_questions(str(tmp_path)) == [Question("1", "why", {'"29': 1, long: 1})]
    assert [(line["event"], line["questions"], line["first"]) for line in lines] == [("tune.not_asked", 1, "17")]


@pytest.mark.parametrize("header", ["", "query-id\tcorpus-id\tscore\r\n"])
def test_judgements_with_a_header_or_without_lose_no_line(tmp_path, header):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": "1", "text": "why", "metadata": {}}\n{"_id": "2", "text": "who"}\n'
    )
    qrels = tmp_path / "qrels" / "test.tsv"
    qrels.write_text(f"{header}1\t29\t0\r\n2\t184\t3\n2\t29\t-1\n", newline="")
    assert read_questions(str(tmp_path)) == [
        Question("1", "why", {"29": 0}),
        Question("2", "who", {"184": 3, "29": -1}),
    ]

    for text, message in (
        ("1\t29\t2147483648\n", ", line 1: .* up to 1000"),
        ("1 29 1\n", ", line 1: expected query-id, .* between tabs"),
        ("0\tx\t1\n17\t29\t1\n", r": it judges no question of queries\.jsonl, but '0'"),
        # A first line that is meant for a question is no header.
        ("1\t29\tmuch\n", ", line 1: expected query-id"),
    ):
        qrels.write_text(text)
        with pytest.raises(ConfigurationError, match=r"test\.tsv" + message):
            read_questions(str(tmp_path))


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "why"}', encoding="utf-8-sig")
    (tmp_path / "qrels" / "test.tsv").write_text("1\t29\t1\n", encoding="utf-8-sig")
    assert read_questions(str(tmp_path)) == [Question("1", "why", {"29": 1})]


def test_what_is_not_utf_8_is_refused_with_its_place(tmp_path):
    (tmp_path / "qrels").mkdir()
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels" / "test.tsv"
    queries.write_bytes(b'{"_id": "1", "text": "a"}\n{"_id": "2", "text": "Z\xfcrich"}')
    with pytest.raises(ConfigurationError, match=r"queries\.jsonl, line 2: this is not UTF-8 \(byte 49 .*, 0xfc\)"):
        read_questions(str(tmp_path))
    queries.write_text('{"_id": "1", "text": "a"}')
    qrels.write_bytes(b"1\tZ\xfcrich\t1\n")
    with pytest.raises(ConfigurationError, match=r"test\.tsv, line 1: this is not UTF-8"):
        read_questions(str(tmp_path))


def test_a_key_that_means_nothing_is_refused(tmp_path):
    """Misspelt, it would cost the question its judgements without a word."""
    file = tmp_path / "queries.jsonl"
    file.write_text('{"query": "a"}\n\n{"query": "b", "relevent": {"c": 1}}')
    with pytest.raises(
        ConfigurationError, match=r"queries\.jsonl, line 3: relevent means nothing .* query, .*relevant"
    ):
        read_questions(str(file))
    # In BEIR's layout judgements stand in a file of their own.
    file.write_text('{"_id": "a", "text": "b", "relevant": {"c": 1}}')
    with pytest.raises(ConfigurationError, match=r"line 1: relevant means nothing here. .* _id, text, metadata"):
        read_questions(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no question"),
        ("{", "line 1: this is no JSON"),
        ('{"query": "a", "relevant": {"b": "much"}}', "whole grades"),
        ('{"query": "a", "relevant": {"b": 1001}}', "whole grades of at most 1000"),
        ('{"query": "a", "relevant": {"b": true}}', "whole grades"),
        ('{"query": "a", "relevant": [{"doc": 1}]}', "a list of documents' names"),
        ('{"query": "a"}\n{"query": "\\ud83d"}', r"line 2: '\\ud83d' is half of a character"),
        ('{"query": "a", "relevant": ' + "[" * 100_000, "line 1: this is no JSON"),
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
    assert list(documents_named({"/s/a/1.md", "b/2.md", "3", "5"}, uris)) == [
        ("/s/a/1.md", "/s/a/1.md"),
        ("/s/b/2.md", "b/2.md"),
        ("/s/c/3.md", "3"),
    ]


def test_a_document_that_has_several_names_is_found_by_each():
    uri_of = one_document_each(documents_named({"/s/a/1.md", "a/1.md", "1"}, ["/s/a/1.md"]))
    assert uri_of == dict.fromkeys(["/s/a/1.md", "a/1.md", "1"], "/s/a/1.md")
    assert judged_by_uri({"1": 1, "a/1.md": 3, "/s/a/1.md": 2, "nowhere": 1}, uri_of) == {"/s/a/1.md": 3, "nowhere": 1}


@pytest.mark.parametrize(
    ("name", "uris"), [("1", ["/s/a/1.txt", "/s/b/1.md"]), ("1.txt", ["/s/a/1.txt", "/s/b/1.txt"])]
)
def test_a_name_that_two_documents_have_is_refused_and_both_are_told(name, uris):
    with pytest.raises(ConfigurationError, match=rf"'{name}' is judged.* {uris[0]} and {uris[1]}. .* by its uri"):
        one_document_each(documents_named({name}, uris))


def test_a_whole_uri_is_one_document_s_alone():
    assert one_document_each(documents_named({"1.txt"}, ["1.txt", "b/1.txt"])) == {"1.txt": "1.txt"}


def test_tasks_give_only_the_documents_that_judgements_name():
    batches = [pa.RecordBatch.from_pydict({"uri": uris}) for uris in (["/s/1.md", None, "/s/2.md"], ["/s/4.md"])]
    found = [row for batch in named_in_task({"2", "/s/2.md", "5"}, batches) for row in batch.to_pylist()]
    assert found == [{"uri": "/s/2.md", "name": "/s/2.md"}, {"uri": "/s/2.md", "name": "2"}]
