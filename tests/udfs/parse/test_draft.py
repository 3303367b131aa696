import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakevec.udfs.parse.document import Document, Heading, Page
from lakevec.udfs.parse.draft import Draft, clean


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("a\x00b\x07c\x7fd\x9be", "abcde"),
        ("a\r\nb\rc\x0cd\x85e\u2028f\u2029g", "a\nb\nc\nd\ne\nf\ng"),
        ("tab\there", "tab\there"),
        ("\ud83d\ude00", "😀"),
        ("a\ud83db", "a\ufffdb"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ufffe\uffff", ""),
        ("e\u0301 שלום 👩‍👩‍👧", "e\u0301 שלום 👩‍👩‍👧"),
    ],
)
def test_what_never_survives_and_what_does(written, cleaned):
    assert clean(written) == cleaned


@given(st.text(st.characters()))
def test_a_cleaned_text_can_always_be_written_and_stays_as_it_is(text):
    cleaned = clean(text)
    cleaned.encode()
    assert clean(cleaned) == cleaned


def test_spans_are_where_headings_and_pages_are():
    draft = Draft()
    draft.page(1)
    draft.heading(1, "Travel\n  😀")
    draft.block("\nBook early.  \nPay late.\n\n")
    draft.page(2)
    draft.page(3)
    draft.heading(9, "Deep")
    assert draft.document("text/plain", part="p", title=" A\ntitle ") == Document(
        text="# Travel 😀\n\nBook early.\nPay late.\n\n###### Deep",
        media_type="text/plain",
        part="p",
        title="A title",
        headings=(Heading(0, 10, 1, "Travel 😀"), Heading(35, 46, 6, "Deep")),
        pages=(Page(0, 33, 1), Page(33, 33, 2), Page(33, 46, 3)),
    )


def test_empty_headings_and_blocks_leave_nothing():
    draft = Draft()
    draft.heading(1, " \x00")
    draft.block(" \n ")
    assert draft.document("text/plain") == Document("", "text/plain")
