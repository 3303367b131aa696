"""How parsers write a document's text: block by block, with headings and pages noted as they come."""

import re
from collections.abc import Iterable

from .document import Date, Document, Heading, Page

# Controls but tab and newline, and the two noncharacters that end many tools.
UNWANTED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
NEWLINES = re.compile("\r\n?|\x0c|\x85|\u2028|\u2029")
SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Valid Unicode with \\n as the only line end: no NUL, no controls, no surrogates.

    Surrogate pairs are put together; a lone one becomes U+FFFD.
    """
    text = UNWANTED.sub("", NEWLINES.sub("\n", text))
    if SURROGATES.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Draft:
    """A document in the making. Blocks (paragraphs, lists, tables) are set apart by an empty line.

    >>> draft = Draft()
    >>> draft.page(1)
    >>> draft.heading(1, "Travel")
    >>> draft.block("Book early.")
    >>> document = draft.document("text/plain")
    >>> document.text
    '# Travel\\n\\nBook early.'
    >>> document.headings[0].start, document.headings[0].end, document.pages[0].end
    (0, 8, 21)
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.headings: list[Heading] = []
        self.page_starts: list[tuple[int, int]] = []

    def page(self, number: int) -> None:
        """What follows stands on this page, slide or sheet. Numbers rise from 1."""
        self.page_starts.append((self.length, number))

    def heading(self, level: int, text: str) -> None:
        """A heading line; level 1 is the topmost. Line breaks within it become spaces."""
        text = " ".join(clean(text).split())
        if not text:
            return
        level = min(max(level, 1), 6)
        start = self.append(f"{'#' * level} {text}")
        self.headings.append(Heading(start, self.length, level, text))

    def block(self, text: str) -> None:
        """A paragraph, list or table, of any number of lines."""
        text = "\n".join(line.rstrip() for line in clean(text).split("\n")).strip("\n")
        if text.strip():
            self.append(text)

    def append(self, text: str) -> int:
        """Add a block; gives the offset at which it starts."""
        if self.parts:
            self.parts.append("\n\n")
            self.length += 2
        start = self.length
        self.parts.append(text)
        self.length += len(text)
        return start

    def document(self, media_type: str, part: str = "", title: str = "", dates: Iterable[Date] = ()) -> Document:
        ends = [start for start, _ in self.page_starts[1:]] + [self.length]
        pages = [Page(start, end, number) for (start, number), end in zip(self.page_starts, ends, strict=False)]
        return Document(
            "".join(self.parts),
            media_type,
            part,
            " ".join(clean(title).split()),
            tuple(self.headings),
            tuple(pages),
            tuple(dates),
        )
