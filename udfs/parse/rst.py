"""reStructuredText: section titles become headings; nothing is included, nothing is run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from ..dates import parse_date
from .document import Date, Document
from .draft import Draft, clean
from .encoding import decode

MEDIA_TYPE = "text/x-rst"

# One punctuation character, repeated: what may stand under (and over) a title.
ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1*\s*$")
# docutils takes a shorter line for text; below four characters it must be as long as the title.
CLEAR_ADORNMENT = 4
# "Title: ..." at the very top, as in PEPs, up to an empty line; indented lines go on.
HEADER = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*:(?:[ \t].*)?\n(?:[ \t]+\S.*\n)*){2,}(?=\s*\n|\Z)")
HEADER_FIELD = re.compile(r"^([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)
# ":Date: ..." as docutils has it, near the top.
FIELD = re.compile(r"^:(title|date|created|published):[ \t]+(.+)$", re.IGNORECASE | re.MULTILINE)
# *emphasis*, **strong**, ``code``, :role:`text`
INLINE = re.compile(r"(:[\w-]+:)?(?<!\w)(`{1,2}|\*{1,2})(?=\S)(.+?)(?<=\S)\2(?!\w)_?")
# ".. some words", but not ".. name::", ".. [1] x", ".. _x: y", ".. |x| y", ".. __: y".
COMMENT = re.compile(r"\.\.(?:\s*$|\s+(?=\S)(?!\[|_|\||(?:[\w+.-]+(?::[\w+.-]+)*)\s?::))")
# A longer line is text, whatever stands under it.
LONGEST_TITLE = 500
LONGEST_HEADER = 20_000
NEAR_TOP = 2_000
DATES = ("created", "date", "published", "post-history", "last-modified")


@dataclass(frozen=True)
class Title:
    """A section title. Levels count from 1 by the order in which their adornments appear."""

    level: int
    text: str


@dataclass(frozen=True)
class Header:
    """What the lines at a text's top say of it. `media_type` is "" or as in "Content-Type: text/x-rst"."""

    title: str = ""
    media_type: str = ""
    dates: list[Date] = field(default_factory=list)


def parse_rst(data: bytes, name: str) -> list[Document]:
    return [document_of_rst(clean(decode(data)))]


def document_of_rst(text: str) -> Document:
    """Comments are left out. The title is the header's, or the first section's of the topmost level."""
    header = header_of(text)
    draft = Draft()
    for part in sections("\n".join(without_comments(text.split("\n")))):
        if isinstance(part, Title):
            draft.heading(part.level, part.text)
        else:
            draft.block(part)
    first = next((heading.text for heading in draft.headings if heading.level == 1), "")
    return draft.document(MEDIA_TYPE, title=header.title or first, dates=header.dates)


def without_comments(lines: list[str]) -> Iterator[str]:
    """Comments go with their indented lines; directives, footnotes, targets and substitutions stay."""
    in_comment = False
    for place, line in enumerate(lines):
        if COMMENT.match(line):
            # An empty comment has no lines of its own: what follows is a quotation.
            in_comment = line.strip() != ".." or (place + 1 < len(lines) and bool(lines[place + 1].strip()))
        elif in_comment and (not line.strip() or line[0].isspace()):
            continue
        else:
            if in_comment:
                in_comment = False
                yield ""
            yield line


def header_of(text: str) -> Header:
    """Title and dates from "Title: ..." lines at the top or from a docutils field list."""
    text = text[:LONGEST_HEADER].lstrip("\ufeff\n")
    found = HEADER.match(text + "\n")
    pairs = HEADER_FIELD.findall(found[0]) if found else FIELD.findall(text[:NEAR_TOP])
    fields = {name.lower(): " ".join(value.split()) for name, value in reversed(pairs)}
    dates = [Date(at, "header") for name in DATES if (at := first_date(fields.get(name, "")))]
    return Header(fields.get("title", "") or fields.get("subject", ""), fields.get("content-type", ""), dates)


def first_date(text: str) -> datetime | None:
    """The date that a text is or begins with: "07-Jul-2002, 12-Feb-2004", "22-Aug-2001 (edited)"."""
    return parse_date(text) or parse_date(re.split("[,(]", text)[0])


def sections(text: str) -> Iterator[Title | str]:
    """The titles of a text and what is between them, in order."""
    lines = text.split("\n")
    levels: dict[tuple[str, bool], int] = {}
    between: list[str] = []
    place = 0
    while place < len(lines):
        is_free = not between or not between[-1].strip()
        found = title_at(lines, place) if is_free else None
        if found:
            style, title, taken = found
            if between:
                yield "\n".join(between)
                between = []
            yield Title(levels.setdefault(style, len(levels) + 1), INLINE.sub(r"\3", title))
            place += taken
        else:
            between.append(lines[place])
            place += 1
    if between:
        yield "\n".join(between)


def title_at(lines: list[str], place: int) -> tuple[tuple[str, bool], str, int] | None:
    """(adornment and whether it is above as well, title, lines taken) if a section title begins here."""
    line = lines[place]
    if not line.strip() or len(line) > LONGEST_TITLE:
        return None
    after = lines[place + 1 : place + 3]
    if ADORNMENT.match(line):
        is_overlined = (
            len(after) == 2
            and after[0].strip()
            and len(after[0]) <= LONGEST_TITLE
            and not ADORNMENT.match(after[0])
            and after[1].rstrip() == line.rstrip()
            and len(line.rstrip()) >= min(len(after[0].strip()), CLEAR_ADORNMENT)
        )
        return ((line[0], True), after[0].strip(), 3) if is_overlined else None
    if after and not line[0].isspace() and ADORNMENT.match(after[0]):
        is_underlined = len(after[0].rstrip()) >= min(len(line.rstrip()), CLEAR_ADORNMENT)
        return ((after[0][0], False), line.strip(), 2) if is_underlined else None
    return None
