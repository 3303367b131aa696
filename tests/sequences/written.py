"""Files as the sequences write them, and the passages that must be found of them.

Written so that one section is one passage: what is expected is put together here, by none of the
pipeline's parsing and splitting. Keys are hashes of what they name (DESIGN: Tables).
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime

import numpy as np
from lakevec.udfs import keys

CHUNKING = "heading-256-32"
DIMENSION = 384


@dataclass(frozen=True)
class Passage:
    """One row of Milvus. at: milliseconds since 1970. embedded: what its vector is of."""

    range: str
    chunk_id: str
    doc_id: str
    uri: str
    title: str
    heading_path: str
    text: str
    start: int
    end: int
    at: int
    embedded: str


@dataclass(frozen=True)
class Section:
    """A heading line of level 1 or 2 and one paragraph. Without a heading, the paragraph alone."""

    heading: str
    text: str
    level: int = 1

    @property
    def line(self) -> str:
        return f"{'#' * self.level} {self.heading}"

    @property
    def written(self) -> str:
        return "\n\n".join(part for part in (self.line if self.heading else "", self.text) if part)


@dataclass(frozen=True)
class Markdown:
    """A document that may name its title and its date."""

    sections: tuple[Section, ...]
    title: str = ""
    date: str = ""

    @property
    def data(self) -> bytes:
        fields = [f"{name}: {value}\n" for name, value in (("title", self.title), ("date", self.date)) if value]
        front = f"---\n{''.join(fields)}---\n" if fields else ""
        return (front + "\n\n".join(section.written for section in self.sections) + "\n").encode()

    def passages(self, uri: str, modified: int) -> frozenset[Passage]:
        own = self.title or next((each.heading for each in self.sections if each.level == 1 and each.heading), "")
        at = datetime.fromisoformat(self.date) if self.date else date_of_file(uri, modified)
        return passages_of(uri, "", own, at, self.sections)


@dataclass(frozen=True)
class Plain:
    """A paragraph, which names neither title nor date."""

    text: str

    @property
    def data(self) -> bytes:
        return self.text.encode()

    def passages(self, uri: str, modified: int) -> frozenset[Passage]:
        return passages_of(uri, "", "", date_of_file(uri, modified), (Section("", self.text),))


@dataclass(frozen=True)
class Message:
    number: int
    date: str
    subject: str
    body: str

    @property
    def sent(self) -> str:
        return format_datetime(datetime.fromisoformat(self.date))


@dataclass(frozen=True)
class Mailbox:
    """One document for each message."""

    messages: tuple[Message, ...]

    @property
    def data(self) -> bytes:
        return "".join(
            f"From ana@example.org Fri May 17 09:15:00 2024\nMessage-ID: <{each.number}@example.org>\n"
            f"Date: {each.sent}\nSubject: {each.subject}\nContent-Type: text/plain; charset=utf-8\n\n{each.body}\n\n"
            for each in self.messages
        ).encode()

    def passages(self, uri: str, modified: int) -> frozenset[Passage]:
        found: set[Passage] = set()
        for each in self.messages:
            shown = Section(each.subject, f"Date: {each.sent}\n\n{each.body}")
            at = datetime.fromisoformat(each.date)
            found |= passages_of(uri, f"<{each.number}@example.org>", each.subject, at, (shown,))
        return frozenset(found)


@dataclass(frozen=True)
class Unreadable:
    """What no parser takes: it is quarantined."""

    data: bytes


Content = Markdown | Plain | Mailbox | Unreadable


def in_words(content: Content) -> str:
    match content:
        case Markdown():
            sections = ", ".join(
                f"{'#' * each.level} {each.heading}: {shortly(each.text)}" for each in content.sections
            )
            return f"{content.title or 'untitled'}, {content.date or 'undated'} ({sections})"
        case Plain():
            return shortly(content.text)
        case Mailbox():
            return ", ".join(f"<{each.number}> {each.date[:10]} {shortly(each.body)}" for each in content.messages)
    return f"{len(content.data)} bytes that nobody reads"


def shortly(text: str) -> str:
    """Its first word, and its last one, which numbers the edition."""
    return f"{text.split()[0]}..{text.split()[-1]}"


def passages_of(uri: str, part: str, title: str, at: datetime, sections: tuple[Section, ...]) -> frozenset[Passage]:
    """title: the document's own, "" where its file's name stands for it."""
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    document = keys.doc_id(uri, part)
    found: list[Passage] = []
    place, outer, seen = 0, "", []
    for section in sections:
        if section.level == 1:
            outer = section.heading
        path = [name for name in ([section.heading] if section.level == 1 else [outer, section.heading]) if name]
        above = path[:-1]
        names = above if not title or (path and path[0] == title) else [title, *above]
        embedded = (" > ".join(names) + "\n\n" if names else "") + section.written
        content = keys.content_hash(embedded)
        found.append(
            Passage(
                range=str(at.astimezone(UTC).year),
                chunk_id=keys.chunk_id(document, CHUNKING, content, seen.count(content)),
                doc_id=document,
                uri=uri,
                title=title or uri.rpartition("/")[2],
                heading_path=" > ".join(path),
                text=section.written,
                start=place,
                end=place + len(section.written),
                at=round(at.timestamp() * 1000),
                embedded=embedded,
            )
        )
        seen.append(content)
        place += len(section.written) + len("\n\n")
    return frozenset(found)


def date_of_file(uri: str, modified: int) -> datetime:
    """The year, or year and month, that begin its name, else when it was modified."""
    name = uri.rpartition("/")[2]
    if name[:4].isdigit():
        return datetime(int(name[:4]), int(name[5:7]) if name[4] == "-" else 1, 1, tzinfo=UTC)
    return datetime.fromtimestamp(modified, UTC)


def vector_of(embedded: str) -> np.ndarray:
    """A unit vector that only this text has."""
    seed = int.from_bytes(hashlib.sha256(embedded.encode()).digest()[:8], "big")
    numbers = np.random.default_rng(seed).normal(size=DIMENSION)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


WORDS = (
    "Trains are booked in second class.",
    "Größe, naïveté, e\u0301 und 日本語 🙂 stehen hier.",
    "Up to five days may be carried into the next year.",
    "Receipts are handed in within four weeks.",
    "The hub is greased every spring.",
)
HEADINGS = ("Leave", "Travel", "Überstunden 🚲", "Expenses", "Leave")
TITLES = ("", "Handbook", "Leave", "規則")
# The last one lies in 2021 by UTC.
DATES = ("", "2019-05-01", "2024-02-29", "1969-07-20", "2020-12-31T23:30:00-02:00")


def paragraph(number: int) -> str:
    """One of the texts; beyond them, the same again."""
    return WORDS[number % len(WORDS)]


def new_content(suffix: str, number: int) -> Content:
    """The number-th content of a file with this suffix; small numbers are small files."""
    size, date, title = 1 + number % 4, DATES[number // 4 % len(DATES)], TITLES[number // 20 % len(TITLES)]
    if suffix == ".txt":
        return Plain(paragraph(number))
    if suffix == ".mbox":
        dates = [each for each in DATES if each]
        return Mailbox(
            tuple(
                Message(each, noon(dates[(number + each) % len(dates)]), f"Shipment {each}", paragraph(number + each))
                for each in range(size)
            )
        )
    sections = [
        Section(HEADINGS[(number + each) % len(HEADINGS)], paragraph(number // 2 + each), 1 + each % 2)
        for each in range(size)
    ]
    return Markdown(tuple(sections), title, date)


def noon(date: str) -> str:
    """A date that a message can carry: with a time and a zone."""
    at = datetime.fromisoformat(date)
    return (at if at.tzinfo else at.replace(hour=12, tzinfo=UTC)).isoformat()


def edited(content: Content, number: int) -> Content:
    """Another text in one place, or one place more or less."""
    match content:
        case Plain():
            return Plain(f"{paragraph(number)} Edition {number}.")
        case Markdown():
            place = number % len(content.sections)
            kept = list(content.sections)
            match number // 8 % 3:
                case 0:
                    kept[place] = replace(kept[place], text=f"{paragraph(number)} Edition {number}.")
                case 1:
                    # Once more, as it stands: equal passages of one document.
                    kept.insert(place, kept[place])
                case _ if len(kept) > 1:
                    del kept[place]
            return replace(content, sections=tuple(kept))
        case Mailbox():
            place = number % len(content.messages)
            kept = list(content.messages)
            match number // 8 % 3:
                case 0:
                    kept[place] = replace(kept[place], body=f"{paragraph(number)} Edition {number}.")
                case 1:
                    newest = 1 + max(each.number for each in kept)
                    kept.insert(place, replace(kept[place], number=newest))
                case _ if len(kept) > 1:
                    del kept[place]
            return Mailbox(tuple(kept))
    return content


def redated(content: Content, number: int) -> Content:
    """The same text, of another date."""
    match content:
        case Markdown():
            return replace(content, date=DATES[number % len(DATES)])
        case Mailbox():
            dates = [each for each in DATES if each]
            kept = list(content.messages)
            place = number % len(kept)
            kept[place] = replace(kept[place], date=noon(dates[number % len(dates)]))
            return Mailbox(tuple(kept))
    return content
