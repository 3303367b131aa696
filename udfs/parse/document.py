"""What every parser returns: one text with the places in it that a citation needs.

All offsets count Unicode code points of `Document.text`, half-open, so that
`text[span.start:span.end]` is what the span names.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Heading:
    """One heading line of the text. `level` is 1 for the topmost; `text` is without its marks."""

    start: int
    end: int
    level: int
    text: str


@dataclass(frozen=True)
class Page:
    """One page, slide or sheet. Numbers start at 1; pages follow one another and may be empty."""

    start: int
    end: int
    number: int


@dataclass(frozen=True)
class Date:
    """A moment that the document itself gives, and where it says so ("pdf", "header", ...)."""

    at: datetime
    origin: str


@dataclass(frozen=True)
class Document:
    """One text: a whole file, or one message or channel-day within a file.

    part: "" for a whole file, else the Message-ID or "channel/2024-05-17"; never an index, so that
        it stays the same when its neighbours come and go.
    text: clean, Markdown-like, heading lines included ("## Scope"). Valid Unicode: no NUL, no surrogates.
    title: the document's own title, or "" where it has none.
    dates: what the document says of its own date, the best first; aware, in UTC.
    """

    text: str
    media_type: str
    part: str = ""
    title: str = ""
    headings: tuple[Heading, ...] = ()
    pages: tuple[Page, ...] = ()
    dates: tuple[Date, ...] = ()


class ParseError(Exception):
    """This file cannot be turned into text. The message says why, for a person."""


class UnsupportedFormat(ParseError):
    """No parser reads this kind of file."""


class EncryptedFile(ParseError):
    """The file asks for a password."""
