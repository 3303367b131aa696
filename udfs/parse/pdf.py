"""PDF: the text layer, page by page, with pdfium.

pdfium gives lines but no paragraphs. Where a line stands on its page tells them apart: a step down that
is clearly larger than the page's usual one, or a jump up into the next column, begins a new block.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from itertools import islice, pairwise
from statistics import median

import pypdfium2
from pypdfium2 import raw

from .document import Date, Document, EncryptedFile, ParseError
from .draft import Draft, clean
from .title import sensible_title

MEDIA_TYPE = "application/pdf"
BULLET = re.compile(r"[•●◦▪■‣∙⁃\uf0b7\uf0a7]\s*")
SECTION_NUMBER = re.compile(r"(chapter|section|appendix)?\s*([\dA-Z]+\.)*([\dA-Z]+\.?)?\s+", re.IGNORECASE)
HYPHENATED = re.compile("(\\w+)\ufffe(\\w+)")
# D:20240517143000+02'00', each part after the year optional
PDF_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:([+-])(\d\d)'?(\d\d)?)?(?:Z.*|')?\s*")
MOST_BOOKMARKS = 20_000


@dataclass(frozen=True)
class Line:
    """One line of a page as pdfium reads it. Lengths in points; y rises from the page's foot."""

    text: str
    left: float
    right: float
    first_foot: float
    last_foot: float
    height: float
    upright: bool


def parse_pdf(data: bytes, name: str) -> list[Document]:
    """The text of a PDF, with a Page for each page, empty ones too, and Headings from its bookmarks.

    A page that cannot be read is left empty. Raises EncryptedFile where a password is asked for, and
    ParseError where it is no PDF, has no page that can be read, or no text (a scan).
    """
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise EncryptedFile("the PDF asks for a password") from error
        if error.err_code == raw.FPDF_ERR_SECURITY:
            raise EncryptedFile("the PDF is encrypted by a scheme that pdfium does not know") from error
        raise ParseError(f"the PDF is damaged: {error}") from error
    try:
        count = len(pdf)
        pages = [lines_of_page(pdf, index) for index in range(count)]
        if all(lines is None for lines in pages):
            raise ParseError("the PDF is damaged: no page of it can be read")
        if not any(line.text.strip() for lines in pages for line in lines or []):
            raise ParseError(f"the PDF has no text on any of its {count} pages: a scan needs OCR first")
        words = vocabulary(pages)
        bookmarks = bookmarks_of(pdf)
        draft = Draft()
        for index, lines in enumerate(pages):
            draft.page(index + 1)
            write_page(draft, lines or [], bookmarks.get(index, []), words)
        title = sensible_title(metadata(pdf, "Title"), name)
        moments = [parse_pdf_date(metadata(pdf, key)) for key in ("CreationDate", "ModDate")]
        dates = [Date(moment, "pdf") for moment in dict.fromkeys(moments) if moment is not None]
        return [draft.document(MEDIA_TYPE, title=title, dates=dates)]
    finally:
        pdf.close()


def lines_of_page(pdf: pypdfium2.PdfDocument, index: int) -> list[Line] | None:
    """The lines of one page in reading order, or None where pdfium cannot read the page."""
    try:
        page = pdf[index]
    except pypdfium2.PdfiumError:
        return None
    try:
        textpage = page.get_textpage()
    except pypdfium2.PdfiumError:
        page.close()
        return None
    # Surrogates stay as they are, so that a place in the text counts as pdfium counts: UTF-16 units.
    text = textpage.get_text_range(errors="surrogatepass")
    lines = []
    start = 0
    for line in text.split("\r\n"):
        end = start + len(line) + sum(character > "\uffff" for character in line)
        if line.strip():
            lines.append(measured(textpage, line, start, end))
        start = end + 2
    textpage.close()
    page.close()
    return lines


def measured(textpage: pypdfium2.PdfTextPage, text: str, start: int, end: int) -> Line:
    visible = len(text.rstrip()) - len(text)
    first = raw.FPDFText_GetCharIndexFromTextIndex(textpage, start)
    last = raw.FPDFText_GetCharIndexFromTextIndex(textpage, max(start, end - 1 + visible))
    head, tail = raw.FS_RECTF(), raw.FS_RECTF()
    known = raw.FPDFText_GetLooseCharBox(textpage, first, head) and raw.FPDFText_GetLooseCharBox(textpage, last, tail)
    angle = raw.FPDFText_GetCharAngle(textpage, first)
    upright = bool(known) and (angle < 0.05 or angle > 6.23)
    return Line(text, head.left, tail.right, head.bottom, tail.bottom, head.top - head.bottom, upright)


def write_page(draft: Draft, lines: list[Line], bookmarks: list[tuple[int, str]], words: frozenset[str]) -> None:
    """Add one page to the draft: headings where a line is a bookmark's title, else paragraphs."""
    waiting = [(level, title) for level, title in bookmarks if title]
    for block in blocks_of(lines):
        kept: list[str] = []
        at = 0
        while at < len(block):
            found = heading_at(block, at, waiting)
            if found is None:
                kept.append(BULLET.sub("- ", block[at], count=1) if BULLET.match(block[at]) else block[at])
                at += 1
                continue
            bookmark, size = found
            waiting.remove(bookmark)
            draft.block(unhyphenated("\n".join(kept), words))
            kept = []
            draft.heading(bookmark[0], unhyphenated(" ".join(block[at : at + size]), words))
            at += size
        draft.block(unhyphenated("\n".join(kept), words))


def blocks_of(lines: list[Line]) -> Iterator[list[str]]:
    """The texts of a page's lines, those of one paragraph together; parts of one line are put together."""
    steps = [
        (before.last_foot - line.first_foot) / line.height
        for before, line in pairwise(lines)
        if before.upright and line.upright and line.height > 0 and before.last_foot - line.first_foot > line.height / 2
    ]
    usual = min(median(steps), 1.6) if steps else 1.2
    block: list[str] = []
    before = None
    for line in lines:
        text = line.text.strip()
        if before is None or not (line.upright and before.upright and line.height > 0):
            block.append(text)
        else:
            height = max(line.height, before.height)
            step = (before.last_foot - line.first_foot) / height
            # A raised last mark (a note's number) does not count, so the first one is asked as well.
            same_height = min(abs(step), abs(before.first_foot - line.first_foot) / height) < 0.4
            if same_height and line.left >= before.right - line.height:
                block[-1] += text if text[0] in ",.;:)]}" else f" {text}"
            elif step > 1.3 * usual or step < -0.5:
                yield block
                block = [text]
            else:
                block.append(text)
        before = line
    if block:
        yield block


def heading_at(block: list[str], at: int, bookmarks: list[tuple[int, str]]) -> tuple[tuple[int, str], int] | None:
    """The bookmark whose title stands at `at`, on one line or two, and how many lines it takes."""
    for size in (1, 2):
        if at + size > len(block):
            break
        text = comparable(" ".join(block[at : at + size]))
        if not text:
            continue
        for bookmark in bookmarks:
            if comparable(bookmark[1]) == text:
                return bookmark, size
    return None


# A bookmark is compared with each line of its page.
@lru_cache(1_000)
def comparable(title: str) -> str:
    """A title without its number, marks and case: "2.1 Scope." and "Scope" are the same."""
    title = SECTION_NUMBER.sub("", clean(title).strip(), count=1)
    return re.sub(r"\W+", " ", title).strip().casefold()


def bookmarks_of(pdf: pypdfium2.PdfDocument) -> dict[int, list[tuple[int, str]]]:
    """Level (from 1) and title of the bookmarks by the page, counted from 0, that they lead to."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for bookmark in islice(pdf.get_toc(), MOST_BOOKMARKS):
            target = bookmark.get_dest()
            index = target.get_index() if target else None
            if index is not None and index >= 0:
                found.setdefault(index, []).append((bookmark.level + 1, bookmark.get_title()))
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        # The outline is an extra: what was read of it before it broke is kept.
        return found
    return found


def vocabulary(pages: list[list[Line] | None]) -> frozenset[str]:
    """All words of the document, those with a hyphen whole: "open-domain"."""
    return frozenset(
        word.casefold() for lines in pages for line in lines or [] for word in re.findall(r"\w+(?:-\w+)*", line.text)
    )


def unhyphenated(text: str, words: frozenset[str]) -> str:
    """Put together the words that a line end cut; pdfium marks such a cut with U+FFFE.

    The hyphen stays where it is part of the word: before a capital or a figure, and where the document
    writes the word with it elsewhere and nowhere without.
    """

    def join(match: re.Match[str]) -> str:
        head, tail = match.groups()
        with_hyphen, without = f"{head}-{tail}", f"{head}{tail}"
        own = without.casefold() not in words and with_hyphen.casefold() in words
        return with_hyphen if own or not tail[0].islower() else without

    text = HYPHENATED.sub(join, text.replace("\x02", "\ufffe"))
    return text.replace("\ufffe", "-").replace("\u00ad", "")


def metadata(pdf: pypdfium2.PdfDocument, key: str) -> str:
    try:
        return pdf.get_metadata_value(key)
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        return ""


def parse_pdf_date(text: str) -> datetime | None:
    """A date as PDF writes it, in UTC; without a zone it is taken as UTC. None where it is none."""
    match = PDF_DATE.fullmatch(text.strip().rstrip("\x00"))
    if match is None:
        return None
    year, month, day, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    offset = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
    try:
        zone = timezone(-offset if sign == "-" else offset)
        return datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            tzinfo=zone,
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
