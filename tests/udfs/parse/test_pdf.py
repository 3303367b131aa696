from datetime import UTC, datetime, timedelta, timezone

import pytest
from fpdf import FPDF
from lakevec.udfs.parse.document import Date, EncryptedFile, Heading, Page, ParseError
from lakevec.udfs.parse.pdf import parse_pdf, parse_pdf_date, unhyphenated
from lakevec.udfs.parse.title import sensible_title


def pdf_of(*pages: str, title: str = "", bookmarks: dict[str, str] | None = None, encrypt: dict | None = None) -> bytes:
    """A page for each string, a line for each of its lines. bookmarks: line to the title that leads to it."""
    pdf = FPDF()
    pdf.set_creation_date(datetime(2024, 5, 17, 14, 30, tzinfo=timezone(timedelta(hours=2))))
    pdf.set_title(title)
    if encrypt:
        pdf.set_encryption(**encrypt)
    for page in pages:
        pdf.add_page()
        for line in page.split("\n"):
            pdf.set_font("Helvetica", size=11)
            if bookmarks and line in bookmarks:
                pdf.start_section(bookmarks[line])
            pdf.cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
    return bytes(pdf.output())


def raw_pdf(content: bytes, to_unicode: bytes) -> bytes:
    """One page, whose font maps its letters by a ToUnicode table."""
    table = b"begincmap 1 begincodespacerange <00> <FF> endcodespacerange\n%s\nendcmap" % to_unicode
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(table), table),
    ]
    return (
        b"%PDF-1.4\n"
        + b"".join(b"%d 0 obj\n%s\nendobj\n" % item for item in enumerate(objects, 1))
        + (b"trailer<</Size 7/Root 1 0 R>>\n%%EOF")
    )


def test_paragraphs_pages_title_and_date_come_out():
    data = pdf_of(
        "Travel costs are paid back\nwithin ten days.\n\nKeep your receipts.", "", "Last page.", title="Travel policy"
    )

    [document] = parse_pdf(data, "travel.pdf")

    first = "Travel costs are paid back\nwithin ten days.\n\nKeep your receipts."
    assert document.text == f"{first}\n\nLast page."
    assert document.pages == (Page(0, 64, 1), Page(64, 64, 2), Page(64, 76, 3))
    assert (document.title, document.headings, document.part) == ("Travel policy", (), "")
    assert document.media_type == "application/pdf"
    assert document.dates == (Date(datetime(2024, 5, 17, 12, 30, tzinfo=UTC), "pdf"),)


def test_a_line_that_is_a_bookmark_is_a_heading():
    bookmarks = {"1 Scope": "Scope", "2 Rules": "2. RULES", "Annex": "Somewhere else"}

    [document] = parse_pdf(pdf_of("1 Scope\nAll staff.\n2 Rules\nBook early.\nAnnex", bookmarks=bookmarks), "a.pdf")

    assert document.text == "# 1 Scope\n\nAll staff.\n\n# 2 Rules\n\nBook early.\nAnnex"
    assert document.headings == (Heading(0, 9, 1, "1 Scope"), Heading(23, 32, 1, "2 Rules"))


def test_bullets_are_lists():
    content = b"BT /F 12 Tf 20 200 Td (B one) Tj 0 -14 Td (B two) Tj ET"

    [document] = parse_pdf(raw_pdf(content, b"1 beginbfchar <42> <2022> endbfchar"), "a.pdf")

    assert document.text == "- one\n- two"


def test_astral_characters_stay_and_a_lone_surrogate_does_no_harm():
    content = b"BT /F 12 Tf 20 200 Td (xAyCz end) Tj 0 -14 Td (Second) Tj ET"
    table = b"2 beginbfchar <41> <D83DDE00> <43> <D800> endbfchar"

    [document] = parse_pdf(raw_pdf(content, table), "a.pdf")

    assert document.text == "x\U0001f600y\ufffdz end\nSecond"


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        ("we exam\ufffeine it", "we examine it"),
        ("a Lucene\ufffeBM25 system", "a Lucene-BM25 system"),
        ("a dual\ufffeencoder here", "a dual-encoder here"),
        ("from 10\ufffe20", "from 10-20"),
        ("soft\u00adhyphen", "softhyphen"),
        ("ends with\ufffe", "ends with-"),
    ],
)
def test_words_cut_at_a_line_end_are_put_together(cut, whole):
    assert unhyphenated(cut, frozenset({"dual-encoder", "examine"})) == whole


def test_a_pdf_with_a_password_is_refused_and_one_without_is_read():
    locked = pdf_of("Secret.", encrypt={"owner_password": "owner", "user_password": "user"})
    with pytest.raises(EncryptedFile, match="password"):
        parse_pdf(locked, "a.pdf")

    [document] = parse_pdf(pdf_of("Open.", encrypt={"owner_password": "owner"}), "a.pdf")
    assert document.text == "Open."


def test_a_scan_says_that_it_has_no_text():
    with pytest.raises(ParseError, match="no text on any of its 2 pages"):
        parse_pdf(pdf_of("", ""), "a.pdf")


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"no pdf at all", b"%PDF-1.7\n%%EOF"])
def test_a_broken_pdf_is_a_parse_error(data):
    with pytest.raises(ParseError, match="damaged"):
        parse_pdf(data, "a.pdf")


def test_one_broken_page_does_not_lose_the_others():
    data = pdf_of("First.", "Second.", "Third.").replace(b"/Kids [3 0 R", b"/Kids [99 0 R")

    [document] = parse_pdf(data, "a.pdf")

    assert document.text == "Second.\n\nThird."
    assert document.pages == (Page(0, 0, 1), Page(0, 7, 2), Page(7, 15, 3))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("D:20240517143000+02'00'", datetime(2024, 5, 17, 12, 30, tzinfo=UTC)),
        ("D:20240517143000-0530", datetime(2024, 5, 17, 20, 0, tzinfo=UTC)),
        ("D:20240517143000Z00'00'", datetime(2024, 5, 17, 14, 30, tzinfo=UTC)),
        ("20240517", datetime(2024, 5, 17, tzinfo=UTC)),
        ("D:1968", datetime(1968, 1, 1, tzinfo=UTC)),
        ("D:20241350000000", None),
        ("D:00000000000000", None),
        ("D:00010101000000+14'00'", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_pdf_dates(text, moment):
    assert parse_pdf_date(text) == moment


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("Travel  policy\x00", "Travel policy"),
        ("2023年度報告書", "2023年度報告書"),
        ("untitled", ""),
        ("Microsoft Word - travel.doc", ""),
        ("PowerPoint Presentation", ""),
        ("Travel policy final.docx", ""),
        ("travel_policy_v2", ""),
        ("Report", ""),
        ("162..177", ""),
    ],
)
def test_a_title_that_no_person_wrote_is_left_out(title, kept):
    assert sensible_title(title, "report.pdf") == kept
