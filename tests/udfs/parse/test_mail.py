from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakevec.udfs.parse.document import Date, Document, Heading, ParseError
from lakevec.udfs.parse.mail import parse_eml, parse_mbox


def mail(text: str) -> Document:
    [document] = parse_eml(text.encode(), "a.eml")
    return document


def test_a_message_is_its_subject_its_people_and_its_text():
    text = (
        "From: Ana <a@example.org>\r\nTo: Bo <b@example.org>\r\nSubject: Trains\r\nMessage-ID: <1@example.org>\r\n"
        "Date: Fri, 17 May 2024 10:00:00 +0200\r\n\r\nBook early.\r\n\r\n\r\n\r\nAna\r\n"
    )
    assert mail(text) == Document(
        "# Trains\n\nFrom: Ana <a@example.org>\nTo: Bo <b@example.org>\nDate: Fri, 17 May 2024 10:00:00 +0200\n\n"
        "Book early.\n\nAna",
        "message/rfc822",
        title="Trains",
        headings=(Heading(0, 8, 1, "Trains"),),
        dates=(Date(datetime(2024, 5, 17, 8, tzinfo=UTC), "header"),),
    )


MULTIPART = """\
From: a@example.org
Subject: Report
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/html; charset=utf-8

<p>The <b>HTML</b></p>
--inner
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

The plain caf=E9
--inner--
--outer
Content-Type: application/pdf
Content-Disposition: attachment; filename="=?utf-8?q?=C3=BCbersicht=2Epdf?="
Content-Transfer-Encoding: base64

JVBERi0xLjQ=
--outer
Content-Type: text/plain

A list's footer
--outer
Content-Type: text/plain; name=notes.txt

not shown
--outer--
"""


def test_plain_text_is_preferred_and_attachments_are_named_but_not_opened():
    assert mail(MULTIPART).text == (
        "# Report\n\nFrom: a@example.org\n\nThe plain café\n\nA list's footer\n\nAttachments: übersicht.pdf, notes.txt"
    )


def test_html_is_read_where_there_is_no_plain_text():
    document = mail(
        "From: a\nSubject: S\nContent-Type: text/html; charset=utf-8\n\n<p>The <b>HTML</b></p><script>x</script>"
    )
    assert "HTML" in document.text
    assert "<" not in document.text
    assert "script" not in document.text


def test_the_messages_of_a_digest_are_read():
    text = (
        "From: a\nSubject: Digest\nContent-Type: multipart/digest; boundary=b\n\n"
        "--b\n\nSubject: One\nFrom: x\n\nFirst\n--b\n\nSubject: Two\n\nSecond\n--b--\n"
    )
    assert mail(text).text == "# Digest\n\nFrom: a\n\nSubject: One\nFrom: x\n\nFirst\n\nSubject: Two\n\nSecond"


@pytest.mark.parametrize(
    ("subject", "title"),
    [
        ("=?utf-8?b?8J+YgCDjgZPjgpM=?= =?iso-8859-1?q?caf=E9?=", "😀 こんcafé"),
        ("=?no-such-charset?q?abc?=", "=?no-such-charset?q?abc?="),
        ("=?utf-8?b?!!!?=", "=?utf-8?b?!!!?="),
        ("folded\n over lines", "folded over lines"),
        ("Grüße", "Grüße"),
        ("=?utf-8?q?a=00b=ED=A0=80?=", "ab\ufffd\ufffd\ufffd"),
        ("", ""),
    ],
)
def test_a_subject_is_decoded_as_far_as_it_can_be(subject, title):
    assert mail(f"From: a\nSubject: {subject}\n\nText").title == title


def test_raw_8_bit_headers_and_wrong_charsets_are_read_by_looking_at_the_bytes():
    data = "From: Jürgen\nSubject: Grüße\nContent-Type: text/plain; charset=x-unknown\n\nÜber die Brücke".encode(
        "cp1252"
    )
    [document] = parse_eml(data, "a.eml")
    assert document.text == "# Grüße\n\nFrom: Jürgen\n\nÜber die Brücke"


def test_a_mail_file_in_utf16_is_read():
    [document] = parse_eml("From: a\nSubject: Grüße\n\nText".encode("utf-16"), "a.eml")
    assert document.text == "# Grüße\n\nFrom: a\n\nText"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Date: Sat, 30 Apr 1955 10:00:00 -0000", [datetime(1955, 4, 30, 10, tzinfo=UTC)]),
        ("Date: 2025-07-29T12:42:06.000Z", [datetime(2025, 7, 29, 12, 42, 6, tzinfo=UTC)]),
        ("Date: no date at all", []),
        ("Date: Thu, 99 Foo 2024 99:99:99 +9999", []),
        (
            "Date: nonsense\nReceived: from x by y; Fri, 17 May 2024 10:00:00 +0000\n"
            "Received: from z; Thu, 1 Jan 1970 00:00:00 +0000",
            [datetime(2024, 5, 17, 10, tzinfo=UTC)],
        ),
    ],
)
def test_the_date_is_the_headers_else_that_of_the_last_server(headers, expected):
    assert list(mail(f"From: a\n{headers}\n\nText").dates) == [Date(at, "header") for at in expected]


@pytest.mark.parametrize("text", ["just words", "{}", "Title: x\n\ny"])
def test_what_has_no_header_of_an_email_is_refused(text):
    with pytest.raises(ParseError, match="no e-mail"):
        mail(text)


@given(st.binary(max_size=300), st.sampled_from(["text/plain; charset=", "multipart/mixed; boundary=", "text/html;"]))
def test_no_message_makes_the_parser_fail(data, kind):
    for document in parse_eml(b"Subject: " + data + b"\nContent-Type: " + kind.encode() + data, "a.eml"):
        document.text.encode()


ONE = """\
From ana@example.org Fri May 17 09:15:00 2024
From: ana@example.org
Subject: One
Message-ID: <1@example.org>

First
>From here on

"""
TWO = """\
From bo@example.org  Sat May 18 10:00:00 2024
From: bo@example.org
Subject: Two

Second, no id

From what I know, it stays.

"""
THREE = """\
From - Sun May 19 10:00:00 2024
From: cy@example.org
Subject: Three
Message-ID:
 <3@example.org>

Third
"""


def mbox(*messages: str) -> dict[str, str]:
    """part -> text of an mbox of these messages."""
    return {document.part: document.text for document in parse_mbox("".join(messages).encode(), "a.mbox")}


def test_what_holds_no_message_is_no_mbox():
    with pytest.raises(ParseError, match="no mbox"):
        parse_mbox(b"\x01\x02 something else", "a.mbox")


def test_an_mbox_is_a_document_per_message():
    parts = mbox(ONE, TWO, THREE)
    assert list(parts) == ["<1@example.org>", "hash:" + list(parts)[1].removeprefix("hash:"), "<3@example.org>"]
    assert list(parts.values()) == [
        "# One\n\nFrom: ana@example.org\n\nFirst\nFrom here on",
        "# Two\n\nFrom: bo@example.org\n\nSecond, no id\n\nFrom what I know, it stays.",
        "# Three\n\nFrom: cy@example.org\n\nThird",
    ]


def test_a_messages_part_and_text_stay_when_its_neighbours_go():
    whole = mbox(ONE, TWO, THREE)
    assert mbox(TWO, THREE) == {part: whole[part] for part in list(whole)[1:]}
    assert mbox(TWO) == {part: whole[part] for part in list(whole)[1:2]}
    assert mbox(THREE, TWO, ONE) == whole


def test_the_line_that_opens_a_message_dates_it_where_nothing_else_does():
    [document] = parse_mbox(TWO.encode(), "a.mbox")
    assert document.dates == (Date(datetime(2024, 5, 18, 10, tzinfo=UTC), "header"),)


def test_equal_message_ids_lose_no_message_whose_content_differs():
    changed = ONE.replace("First", "Changed")
    parts = mbox(ONE, changed, ONE)
    assert len(parts) == 2
    assert next(iter(parts)) == "<1@example.org>"
    assert list(parts)[1].startswith("<1@example.org> ")
    assert [text.split("\n")[4] for text in parts.values()] == ["First", "Changed"]


def test_an_mbox_with_windows_line_ends_is_read_as_well():
    assert mbox(ONE.replace("\n", "\r\n"), THREE.replace("\n", "\r\n")) == mbox(ONE, THREE)
