from datetime import UTC, datetime

import pytest
from lakevec.udfs.parse.document import Date, Document, Heading
from lakevec.udfs.parse.markdown import parse_markdown


def parsed(text: str) -> Document:
    [document] = parse_markdown(text.encode(), "a.md")
    return document


def test_headings_of_both_kinds_become_heading_lines_and_the_rest_stays():
    text = "Travel\n===\n\nBook *early*.\n\nHotels ##\n---\n- one\n- two\n\n ### Late [check-in](x.md) ### \nbye\n"
    assert parsed(text) == Document(
        "# Travel\n\nBook *early*.\n\n## Hotels ##\n\n- one\n- two\n\n### Late check-in\n\nbye",
        "text/markdown",
        title="Travel",
        headings=(
            Heading(0, 8, 1, "Travel"),
            Heading(25, 37, 2, "Hotels ##"),
            Heading(52, 69, 3, "Late check-in"),
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        "```python\n# no heading\n```",
        "~~~~\n# no\n```\n~~~\n# no\n~~~~",
        "```\n# never closed",
        "    # indented code",
        "<!--\n# a comment\n-->",
        "#hashtag",
        "####### seven",
        "a | b\n---|---\n1 | 2",
        "- item\n---",
        "> quote\n---",
        "two lines\nof text\n---",
        "one\n\n---\n\ntwo",
    ],
)
def test_what_only_looks_like_a_heading_is_text(text):
    assert parsed(text) == Document(text, "text/markdown")


def test_a_fence_that_closed_lets_headings_be_headings_again():
    assert [h.text for h in parsed("```\n# no\n```\n# yes\n<!-- # no -->\n# again").headings] == ["yes", "again"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("**Scope** and `code`", "Scope and code"),
        ("![logo](a.png) [The *plan*](b_(c).md) {#plan}", "logo The plan"),
        ("snake_case_name 2 * 3 * 4", "snake_case_name 2 * 3 * 4"),
        ("Q&amp;A \\#1 <a id='x'></a>", "Q&A #1"),
        ("日本語の見出し 😀", "日本語の見出し 😀"),
    ],
)
def test_a_headings_text_is_without_marks(written, read):
    assert parsed(f"## {written}").headings == (Heading(0, len(read) + 3, 2, read),)


def test_a_line_of_a_megabyte_is_no_heading():
    assert parsed("# " + "*a " * 300_000).headings == ()


def test_front_matter_gives_title_and_date_and_is_no_text():
    document = parsed("---\ntitle: 'Travel: the policy'\ndate: 2024-05-17 09:00:00 +0200\ntags: [a, b]\n---\n# Scope\n")
    assert document == Document(
        "# Scope",
        "text/markdown",
        title="Travel: the policy",
        headings=(Heading(0, 7, 1, "Scope"),),
        dates=(Date(datetime(2024, 5, 17, 7, tzinfo=UTC), "front matter"),),
    )


@pytest.mark.parametrize("key", ["date", "Date", "published", "pubDate", "publish_date", "created-at", "lastmod"])
def test_dates_in_front_matter_have_many_names(key):
    assert parsed(f"---\n{key}: 2024-05-17\n---\nText").dates == (
        Date(datetime(2024, 5, 17, tzinfo=UTC), "front matter"),
    )


def test_the_date_of_publication_comes_before_that_of_the_last_change():
    document = parsed("---\nlastmod: 2024-05-17\ndate: 2020-01-01\n---\nText")
    assert [date.at.year for date in document.dates] == [2020, 2024]


def test_toml_front_matter_is_read_as_well():
    document = parsed('+++\ntitle = "Travel"\ndate = 2024-05-17T09:00:00Z\n+++\nText')
    assert (document.text, document.title, document.dates[0].at.day) == ("Text", "Travel", 17)


@pytest.mark.parametrize("front", ["title: A: B\ndate: 2024-05-17", "title: Travel\n\tdate: {{ x }}\nlist: [a"])
def test_front_matter_that_is_no_valid_yaml_loses_nothing_of_the_document(front):
    document = parsed(f"---\n{front}\n---\nText")
    assert document.text == "Text"
    assert document.title in ("A: B", "Travel")


@pytest.mark.parametrize("text", ["---\nnever closed", "---\njust text\n---\nmore", "---\n- a\n- b\n---\nmore"])
def test_what_only_opens_like_front_matter_is_text(text):
    assert parsed(text) == Document(text, "text/markdown")


def test_a_front_matter_that_refers_to_itself_and_a_date_out_of_range_do_no_harm():
    document = parsed("---\ntitle: Travel\na: &a [*a, *a]\ndate: 2024-13-45\nb: !!python/object:os.system x\n---\nText")
    assert (document.text, document.title, document.dates) == ("Text", "Travel", ())
