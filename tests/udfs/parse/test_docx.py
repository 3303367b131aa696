import zipfile
from datetime import UTC, datetime
from io import BytesIO

import docx
import pytest
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls, qn
from lakevec.udfs.parse.document import Date, Document, EncryptedFile, Heading, ParseError
from lakevec.udfs.parse.docx import parse_docx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"


def saved(document) -> bytes:
    buffer = BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def parsed(data: bytes) -> Document:
    [document] = parse_docx(data, "file.docx")
    return document


def zipped(**parts: str | bytes) -> bytes:
    """A zip of parts; "__" in a name stands for a slash."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/") + ".xml", content)
    return buffer.getvalue()


def bare(body: str, namespace: str = W) -> bytes:
    """The smallest Word file: a body, without styles, relationships or properties."""
    return zipped(word__document=f"<w:document {namespace}><w:body>{body}</w:body></w:document>")


def test_headings_paragraphs_lists_and_tables_come_in_their_order():
    source = docx.Document()
    source.core_properties.title = "Travel policy"
    source.core_properties.created = datetime(2024, 5, 17, 12, 30, tzinfo=UTC)
    source.core_properties.modified = datetime(2024, 6, 1, tzinfo=UTC)
    source.add_heading("Travel", 1)
    source.add_paragraph("Book early.")
    source.add_paragraph("by train", style="List Bullet")
    source.add_paragraph("by bus", style="List Bullet")
    table = source.add_table(rows=2, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "City", "Fare"
    table.cell(1, 0).text, table.cell(1, 1).text = "Bonn", "12 €\neach"
    source.add_heading("Costs", 2)
    source.add_paragraph("first", style="List Number")
    source.add_paragraph("second", style="List Number")
    source.add_paragraph("Paid back.")

    assert parsed(saved(source)) == Document(
        text="# Travel\n\nBook early.\n\n- by train\n- by bus\n\nCity | Fare\nBonn | 12 € each\n\n## Costs\n\n"
        "1. first\n2. second\n\nPaid back.",
        media_type="application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        title="Travel policy",
        headings=(Heading(0, 8, 1, "Travel"), Heading(74, 82, 2, "Costs")),
        dates=(
            Date(datetime(2024, 5, 17, 12, 30, tzinfo=UTC), "docx"),
            Date(datetime(2024, 6, 1, tzinfo=UTC), "docx"),
        ),
    )


def test_the_title_style_gives_a_title_and_the_template_gives_no_date():
    source = docx.Document()
    source.add_heading("Annual report", 0)

    document = parsed(saved(source))

    assert (document.text, document.title, document.dates) == ("# Annual report", "Annual report", ())


def test_a_style_with_an_outline_level_is_a_heading_whatever_its_name():
    source = docx.Document()
    style = source.styles.add_style("Überschrift intern", 1)
    level = OxmlElement("w:outlineLvl")
    level.set(qn("w:val"), "1")
    style.element.get_or_add_pPr().append(level)
    based = source.styles.add_style("Ableitung", 1)
    based.base_style = style
    source.add_paragraph("Zweck", style=style)
    source.add_paragraph("Umfang", style=based)

    assert parsed(saved(source)).text == "## Zweck\n\n## Umfang"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<w:p><w:r><w:t>漢字 עברית e\u0301 👩‍👩‍👧</w:t></w:r></w:p>", "漢字 עברית e\u0301 👩‍👩‍👧"),
        ('<w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>Part</w:t></w:r></w:p>', "## Part"),
        ("<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>", "a b\nc"),
        ("<w:p><w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del><w:r><w:t>old</w:t></w:r></w:del></w:p>", "new"),
        ("<w:p><w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink></w:p>", "link"),
        ("<w:p><w:r><w:instrText>DDEAUTO c:\\\\x.exe</w:instrText></w:r><w:r><w:t>shown</w:t></w:r></w:p>", "shown"),
        ("<w:sdt><w:sdtContent><w:p><w:r><w:t>inside</w:t></w:r></w:p></w:sdtContent></w:sdt>", "inside"),
        ("<w:p><w:r><w:pict><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent></w:pict></w:r>"
         "<w:r><w:t>text</w:t></w:r></w:p>", "text\n\nbox"),
        ("<w:tbl><w:tr><w:tc><w:p><w:r><w:t>only</w:t></w:r></w:p><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc></w:tr>"
         "</w:tbl>", "only\n\ncell"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_word_shows_is_the_text_even_without_styles(body, text):
    assert parsed(bare(body)).text == text


def test_the_strict_dialect_is_read():
    body = '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Strict</w:t></w:r></w:p>'

    assert parsed(bare(body, f'xmlns:w="{STRICT}"')).text == "# Strict"


def test_headers_are_left_out_and_footnotes_stand_at_the_end():
    source = docx.Document()
    source.sections[0].header.paragraphs[0].text = "CONFIDENTIAL"
    paragraph = source.add_paragraph("Claim.")
    paragraph._p.append(parse_xml(f'<w:r {nsdecls("w")}><w:footnoteReference w:id="2"/></w:r>'))
    source.add_paragraph("Next.")
    notes = f'<w:footnotes {W}><w:footnote w:id="2"><w:p><w:r><w:t>Source.</w:t></w:r></w:p></w:footnote></w:footnotes>'
    part = docx.opc.part.Part(
        docx.opc.packuri.PackURI("/word/footnotes.xml"),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml",
        notes.encode(),
        source.part.package,
    )
    source.part.relate_to(part, "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes")

    assert parsed(saved(source)).text == "Claim.[1]\n\nNext.\n\n[1] Source."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04 and no more", "damaged or cut short"),
        (saved(docx.Document())[:-2000], "damaged or cut short"),
        (zipped(readme="hello"), "holds no word/document.xml"),
        (zipped(word__document="<w:document"), "is not XML"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old binary Office file"),
    ],
)
def test_what_is_no_word_file_is_a_parse_error(data, message):
    with pytest.raises(ParseError, match=message):
        parse_docx(data, "file.docx")


def test_a_password_is_asked_for():
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le")

    with pytest.raises(EncryptedFile):
        parse_docx(data, "file.docx")


@pytest.mark.parametrize("bomb", ["laughs", "outside"])
def test_entities_are_neither_expanded_nor_fetched(bomb, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    laughs = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 50}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    declared = laughs if bomb == "laughs" else f'<!ENTITY i SYSTEM "{secret.as_uri()}">'
    body = "<w:body><w:p><w:r><w:t>&i;</w:t></w:r></w:p></w:body>"

    with pytest.raises(ParseError, match=r"word/document\.xml"):
        parse_docx(zipped(word__document=f"<!DOCTYPE d [{declared}]><w:document {W}>{body}</w:document>"), "a.docx")
