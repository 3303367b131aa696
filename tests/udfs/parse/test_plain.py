from datetime import UTC, datetime

from lakevec.udfs.parse.document import Date, Document, Heading
from lakevec.udfs.parse.plain import parse_plain
from lakevec.udfs.parse.rst import parse_rst


def test_a_text_stays_as_it_is():
    text = "First line.\n\n    indented\n\n\nLast line – ünïcödé."
    assert parse_plain(text.encode(), "a.txt") == [Document(text, "text/plain")]


def test_underlined_titles_become_headings():
    [document] = parse_plain(b"Travel\n======\n\nBook early.\n\nHotels\n------\nPay late.\n", "a.txt")
    assert document == Document(
        "# Travel\n\nBook early.\n\n## Hotels\n\nPay late.",
        "text/plain",
        headings=(Heading(0, 8, 1, "Travel"), Heading(23, 32, 2, "Hotels")),
    )


def test_rules_and_tables_are_no_headings():
    text = "One\n\n-----\n\na  b\n== ==\n1  2\n\nA paragraph of\ntwo lines\n---------"
    assert parse_plain(text.encode(), "a.txt") == [Document(text, "text/plain")]


def test_a_header_as_of_an_email_gives_title_and_date():
    [document] = parse_plain(
        b"From: ana@example.org\nSubject: Trains\nDate: Fri, 17 May 2024 10:00:00 +0200\n\nHi.", "a"
    )
    assert document.title == "Trains"
    assert document.dates == (Date(datetime(2024, 5, 17, 8, tzinfo=UTC), "header"),)


def test_nul_bytes_are_left_out_of_a_text():
    assert parse_plain(b"hello\x00 world\x00", "a.txt") == [Document("hello world", "text/plain")]


def test_a_text_that_says_it_is_rst_is_read_so_whatever_its_name():
    data = b"PEP: 1\nTitle: Purpose\nContent-Type: text/x-rst\n\nScope\n=====\n.. comment\n\nText"
    assert parse_plain(data, "pep-0001.txt") == parse_rst(data, "pep-0001.rst")
