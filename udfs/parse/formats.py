"""Which parser reads a file: decided by its content, then by its name."""

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import PurePosixPath

from .document import Document, EncryptedFile, ParseError, UnsupportedFormat
from .encoding import is_binary, is_marked, wide

# kind -> module and function; imported when the first file of the kind comes.
PARSERS = {
    "pdf": ("pdf", "parse_pdf"),
    "html": ("html", "parse_html"),
    "docx": ("docx", "parse_docx"),
    "pptx": ("pptx", "parse_pptx"),
    "xlsx": ("xlsx", "parse_xlsx"),
    "markdown": ("markdown", "parse_markdown"),
    "rst": ("rst", "parse_rst"),
    "plain": ("plain", "parse_plain"),
    "eml": ("mail", "parse_eml"),
    "mbox": ("mail", "parse_mbox"),
    "slack zip": ("slack", "parse_slack_zip"),
    "slack day": ("slack", "parse_slack_day"),
}

SUFFIXES = {
    ".pdf": "pdf",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "rst",
    ".txt": "plain",
    ".text": "plain",
    ".log": "plain",
    "": "plain",
    ".eml": "eml",
    ".mbox": "mbox",
    ".mbx": "mbox",
    ".json": "slack day",
}

# The main part's content type of an Office file, macros and templates included.
OFFICE = {
    "docx": re.compile(rb"wordprocessingml\.(?:document|template)\.main\+xml|ms-word\.\w+\.macroEnabled"),
    "pptx": re.compile(
        rb"presentationml\.(?:presentation|slideshow|template)\.main\+xml|ms-powerpoint\.\w+\.macroEnabled"
    ),
    "xlsx": re.compile(rb"spreadsheetml\.(?:sheet|template)\.main\+xml|ms-excel\.\w+\.macroEnabled\.main\+xml"),
}
CONTENT_TYPES = "[Content_Types].xml"
LARGEST_CONTENT_TYPES = 1 << 20
# A zip archive that grows beyond both when it is unpacked is there to harm.
BOMB_BYTES = 256 * 2**20
BOMB_FACTOR = 100
SLACK_DAY = re.compile(r"(?:^|/)[^/]+/\d{4}-\d\d-\d\d\.json$")

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
PDF = b"%PDF-"
# A PDF may have so many bytes of something else before it.
PDF_WITHIN = 1024
HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S
)
SNIFFED = 4096
# White space, and what stands for bytes that are no text.
NOTHING = " \n\t\ufffd"

SUPPORTED = "PDF, HTML, DOCX, PPTX, XLSX, Markdown, reStructuredText, plain text, e-mail, mbox, Slack export"


def parse(data: bytes, name: str) -> list[Document]:
    """The documents in a file.

    name: the file's name, with its folder's where that says something ("general/2024-05-17.json").
    Raises ParseError (UnsupportedFormat, EncryptedFile), and whatever a parser lets through.
    """
    documents = [document for document in parser_of(data, name)(data, name) if document.text.strip(NOTHING)]
    if not documents:
        raise ParseError("there is no text in it")
    return documents


def parser_of(data: bytes, name: str) -> Callable[[bytes, str], list[Document]]:
    module, function = PARSERS[kind_of(data, name)]
    return getattr(import_module(f".{module}", __package__), function)


def kind_of(data: bytes, name: str) -> str:
    """A key of PARSERS. Raises UnsupportedFormat, EncryptedFile or ParseError, with the reason."""
    suffix = PurePosixPath(name).suffix.lower()
    named = SUFFIXES.get(suffix)
    if not data.strip():
        raise ParseError("there is no text in it: the file is empty")
    if data.startswith(PDF) or (named == "pdf" and PDF in data[:PDF_WITHIN]):
        return "pdf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return kind_of_zip(data, suffix)
    if data.startswith(OLE):
        if ENCRYPTED_PACKAGE in data:
            raise EncryptedFile("it asks for a password: an encrypted Office file")
        raise UnsupportedFormat("the binary Office formats before 2007 (.doc, .xls, .ppt) and .msg are not read")
    if named == "pdf":
        raise ParseError("it is named .pdf, but has no PDF header")
    if suffix[1:] in OFFICE:
        raise ParseError(f"it is named {suffix}, but is no Office file: those are zip archives")
    if named not in ("html", "eml", "mbox") and is_binary(data) and not is_marked(data) and not wide(data):
        raise UnsupportedFormat(f"binary data of no format that is read ({SUPPORTED})")
    if named == "plain" and HTML.match(data[:SNIFFED]):
        return "html"
    if named is None:
        raise UnsupportedFormat(f"{suffix} is not read (what is: {SUPPORTED})")
    return named


def kind_of_zip(data: bytes, suffix: str) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            unpacked = sum(entry.file_size for entry in archive.infolist())
            types = b""
            if CONTENT_TYPES in names:
                with archive.open(CONTENT_TYPES) as part:
                    types = part.read(LARGEST_CONTENT_TYPES)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ParseError(f"a damaged zip archive: {error}") from error
    if unpacked > max(BOMB_BYTES, BOMB_FACTOR * len(data)):
        raise ParseError(f"it unpacks to {unpacked / 2**20:,.0f} MB, {unpacked // len(data):,} times its size")
    for kind, main_part in OFFICE.items():
        if main_part.search(types):
            return kind
    if any(SLACK_DAY.search(name) for name in names):
        return "slack zip"
    if suffix in (".docx", ".pptx", ".xlsx"):
        raise UnsupportedFormat(f"it is named {suffix}, but is a zip archive without an Office document in it")
    raise UnsupportedFormat("a zip archive that is neither an Office file nor a Slack export: unpack it")
