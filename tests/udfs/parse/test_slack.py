import io
import json
import zipfile
from datetime import UTC, datetime

import pytest
from lakevec.udfs.parse.document import Date, Document, Heading, ParseError, UnsupportedFormat
from lakevec.udfs.parse.slack import parse_slack_day, parse_slack_zip


def message(ts: str, text: str, **more) -> dict:
    return {"type": "message", "user": "U1", "ts": ts, "text": text, **more}


def day(*messages: dict, name: str = "general/2024-05-17.json") -> Document:
    [document] = parse_slack_day(json.dumps(messages).encode(), name)
    return document


def export(**files: object) -> bytes:
    """A zip archive of these entries, as JSON; "__" in a name stands for "/"."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{name.replace('__', '/').replace('_', '-')}.json", json.dumps(content))
    return written.getvalue()


# 2024-05-17 09:15 and on
AT_0915, AT_0920, AT_0930 = "1715937300.000100", "1715937600.000200", "1715938200.000300"


def test_a_day_is_a_document_with_a_message_per_block():
    ana = {"real_name": "Ana Lima"}
    document = day(
        message(AT_0930, "Second\nline", user="U2", username="bo"), message(AT_0915, "Hello 😀", user_profile=ana)
    )
    assert document == Document(
        "# #general, 2024-05-17\n\nAna Lima (09:15): Hello 😀\n\nbo (09:30): Second\nline",
        "application/x-slack-export",
        title="#general, 2024-05-17",
        headings=(Heading(0, 22, 1, "#general, 2024-05-17"),),
        dates=(Date(datetime(2024, 5, 17, 9, 15, 0, 100, tzinfo=UTC), "slack"),),
    )


def test_answers_follow_what_they_answer_as_quotes():
    document = day(
        message(AT_0915, "Question?", thread_ts=AT_0915),
        message(AT_0920, "Something else"),
        message(AT_0930, "Answer.\nMore.", thread_ts=AT_0915),
        message("1715938300.0", "Late answer", thread_ts="1715850000.0"),
    )
    assert document.text.split("\n\n")[1:] == [
        "U1 (09:15): Question?",
        "> U1 (09:30): Answer.\n> More.",
        "U1 (09:20): Something else",
        "> U1 (09:31): Late answer",
    ]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("<@U1> and <@U9|eve> and <@U8>", "@Ana and @eve and @U8"),
        ("see <#C1|random> or <#C2>", "see #random or #C2"),
        (
            "<https://example.org/a?b&amp;c|the page> <https://example.org>",
            "the page (https://example.org/a?b&c) https://example.org",
        ),
        ("<!here> <!subteam^S1|@team> <!date^1^{date}|May 17>", "@here @team May 17"),
        ("1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"),
    ],
)
def test_slacks_marks_are_read_in_plain_words(text, read):
    document = day(message(AT_0915, text, user_profile={"real_name": "Ana"}))
    assert document.text.split("\n\n")[1] == f"Ana (09:15): {read}"


def test_cards_files_and_blocks_are_part_of_a_message():
    blocks = [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [
        {"type": "text", "text": "From "}, {"type": "user", "user_id": "U1"}, {"type": "link", "url": "https://example.org"},
    ]}]}]  # fmt: skip
    document = day(
        message(AT_0915, "", blocks=blocks),
        message(AT_0920, "Look", attachments=[{"title": "Card", "text": "Its text", "fallback": "no"}]),
        message(AT_0930, "", files=[{"name": "plan.pdf"}]),
    )
    assert document.text.split("\n\n")[1:] == [
        "U1 (09:15): From @U1https://example.org",
        "U1 (09:20): Look\nCard\nIts text",
        "U1 (09:30): [file: plan.pdf]",
    ]


def test_who_came_and_went_is_left_out():
    joined = message(AT_0915, "<@U1> has joined the channel", subtype="channel_join")
    document = day(joined, message(AT_0930, "Hello"))
    assert document.text == "# #general, 2024-05-17\n\nU1 (09:30): Hello"
    assert document.dates[0].at.minute == 30
    with pytest.raises(ParseError, match="without a message"):
        day(joined)


def test_an_export_is_a_document_per_channel_and_day_with_its_users_names():
    data = export(
        users=[{"id": "U1", "name": "ana", "profile": {"real_name": "Ana Lima"}}, {"id": "U2", "name": "bo"}],
        channels=[{"id": "C1", "name": "general"}],
        general__2024_05_17=[message(AT_0915, "Hi <@U2>")],
        general__2024_05_18=[message("1716023700.0", "Ho", user="U2")],
        random__2024_05_17=[message(AT_0930, "Ha", user="U3")],
        random__2024_05_18=[],
    )
    assert [(document.part, document.text) for document in parse_slack_zip(data, "export.zip")] == [
        ("general/2024-05-17", "# #general, 2024-05-17\n\nAna Lima (09:15): Hi @bo"),
        ("general/2024-05-18", "# #general, 2024-05-18\n\nbo (09:15): Ho"),
        ("random/2024-05-17", "# #random, 2024-05-17\n\nU3 (09:30): Ha"),
    ]


@pytest.mark.parametrize(
    "content",
    [[{"id": "U1", "name": "ana"}], [{"id": "C1", "name": "general", "created": 1}], {"a": 1}, [1, 2], "text", None],
)
def test_json_that_is_no_day_of_an_export_is_not_supported(content):
    with pytest.raises(UnsupportedFormat):
        parse_slack_day(json.dumps(content).encode(), "export/users.json")


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_json_is_not_supported(data):
    with pytest.raises(UnsupportedFormat, match="no valid JSON"):
        parse_slack_day(data, "a.json")
