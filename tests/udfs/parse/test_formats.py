import io
import zipfile

import pytest
from lakevec.udfs.parse.document import EncryptedFile, ParseError, UnsupportedFormat
from lakevec.udfs.parse.formats import PARSERS, kind_of, parse, parser_of

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
SLIDES = "application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml"
SHEETS = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MESSAGE = b'[{"type": "message", "user": "U1", "ts": "1715937300.0001", "text": "Hello"}]'


def archive(**entries: str | bytes) -> bytes:
    """A zip archive of these entries; "__" in a name stands for "/"."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/"), content)
    return written.getvalue()


def office(main_part: str) -> bytes:
    types = f'<Types><Override PartName="/main.xml" ContentType="{main_part}"/></Types>'
    return archive(**{"[Content_Types].xml": types})


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (b"%PDF-1.7\n", "a.pdf", "pdf"),
        (b"%PDF-1.7\n", "a.txt", "pdf"),
        (b"junk\n" * 100 + b"%PDF-1.7\n", "a.PDF", "pdf"),
        (b"The header of a PDF is %PDF-1.7", "a.txt", "plain"),
        (office(WORD), "a.docx", "docx"),
        (office(WORD), "renamed.pdf", "docx"),
        (office(SLIDES), "a.pptx", "pptx"),
        (office(SHEETS), "a", "xlsx"),
        (b"<p>Hi</p>", "a.html", "html"),
        (b"<p>Hi</p>", "a.HTM", "html"),
        (b"<p>Hi</p>", "a.xhtml", "html"),
        (b"\xef\xbb\xbf <!-- x --> <!DOCTYPE html><p>Hi</p>", "page", "html"),
        (b"# Hi", "README.md", "markdown"),
        (b"# Hi", "a.markdown", "markdown"),
        (b"Hi\n==", "a.rst", "rst"),
        (b"Hi", "a.txt", "plain"),
        (b"Hi", "a.text", "plain"),
        (b"Hi", "a.log", "plain"),
        (b"Hi", "LICENSE", "plain"),
        ("Hi".encode("utf-16"), "a.txt", "plain"),
        ("Hello there".encode("utf-16-le"), "a.txt", "plain"),
        (b"Subject: Hi\n\nHi", "a.eml", "eml"),
        (b"From a Fri May 17 09:15:00 2024\n", "a.mbox", "mbox"),
        (MESSAGE, "general/2024-05-17.json", "slack day"),
        (archive(**{"general__2024-05-17.json": MESSAGE}), "export.zip", "slack zip"),
    ],
)
def test_the_content_decides_and_then_the_name(data, name, kind):
    assert kind_of(data, name) == kind


@pytest.mark.parametrize("kind", PARSERS)
def test_every_kind_has_a_parser(kind, monkeypatch):
    monkeypatch.setattr("lakevec.udfs.parse.formats.kind_of", lambda data, name: kind)
    assert callable(parser_of(b"", ""))


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00", "a.png", "binary data"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00", "a.txt", "binary data"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), "program", "binary data"),
        (b"a,b\n1,2\n", "a.csv", r"\.csv is not read"),
        (b"print(1)", "a.py", r"\.py is not read"),
        (archive(a=b"text"), "a.zip", "neither an Office file nor a Slack export"),
        (archive(a=b"text"), "a.docx", r"named \.docx, but is a zip archive without an Office document"),
        (office("application/vnd.ms-excel.sheet.binary.macroEnabled.main"), "a.xlsb", "neither an Office file"),
        (OLE + bytes(500), "a.doc", "before 2007"),
        (b'{"a": 1}', "a.json", "no day of a Slack export"),
    ],
)
def test_what_is_not_read_is_refused_with_its_reason(data, name, reason):
    with pytest.raises(UnsupportedFormat, match=reason):
        parse(data, name)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.txt", "no text in it"),
        (b"", "a.pdf", "no text in it"),
        (b" \n\t\r\n", "a.md", "no text in it"),
        ("\ufeff\x00".encode(), "a.txt", "no text in it"),
        (b"---\ntitle: Only\n---\n", "a.md", "no text in it"),
        (b"no header", "a.pdf", "no PDF header"),
        (b"half of an archive", "a.docx", r"it is named \.docx, but is no Office file"),
        (office(WORD)[:40], "a.docx", "damaged zip archive"),
        (archive(bomb=b"0" * 300_000_000), "a.xlsx", "unpacks to 286 MB"),
    ],
)
def test_what_has_no_text_or_is_broken_is_refused_with_its_reason(data, name, reason):
    with pytest.raises(ParseError, match=reason) as raised:
        parse(data, name)
    assert raised.type is ParseError


def test_an_encrypted_office_file_is_told_from_an_old_one():
    with pytest.raises(EncryptedFile, match="password"):
        parse(OLE + bytes(500) + "EncryptedPackage".encode("utf-16-le"), "a.docx")


def test_a_text_of_50_mb_is_parsed():
    data = ("Übermäßig große Straßen führen über die Brücke.\n" * 1_000_000).encode("cp1252")
    [document] = parse(data, "a.txt")
    assert len(document.text) == len(data) - 1
    assert document.text.startswith("Übermäßig große")


def test_bytes_that_are_no_text_in_any_encoding_are_no_document():
    with pytest.raises(ParseError, match="no text in it"):
        parse("\ufffd \ufffd\n".encode(), "notes.rst")
