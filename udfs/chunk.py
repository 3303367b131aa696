"""From a document's text to passages of a size that the model reads.

One loop serves the three strategies; they differ in where it may cut. It walks over the places of the
tokens of the whole text, so the offsets of a passage are carried through and never searched for. Where these
places only estimate its size, what is embedded is counted by the tokenizer before it is let through.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from . import keys
from .cuts import LINE, PARAGRAPH, SENTENCE, WORD, Break, first_cut, last_cut
from .model import Model, model_here
from .tokens import Places, TokenCounter

STRATEGIES = ("heading", "recursive", "fixed")
FEWEST_TOKENS = 16
PATH_SEPARATOR = " > "
PREFIX_END = "\n\n"

# A token may stand for a whole unknown word, and white space costs none: without a limit in characters
# a megabyte of base64 could be one passage.
CHARACTERS_PER_TOKEN = 8

SCHEMA = pa.schema(
    [
        ("chunk_id", pa.string()),
        ("doc_id", pa.string()),
        ("ordinal", pa.int32()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("text", pa.string()),
        ("prefix", pa.string()),
        ("content_hash", pa.string()),
        ("tokens", pa.int32()),
        ("heading_path", pa.string()),
        ("page", pa.int32()),
        ("last_page", pa.int32()),
        ("uri", pa.string()),
        ("title", pa.string()),
        ("doc_timestamp", pa.timestamp("us", tz="UTC")),
    ]
)
ROWS_PER_BATCH = 2_000


class ChunkingError(ValueError):
    """A text cannot be split as it is asked for. The message says which setting to change."""


@dataclass(frozen=True)
class Chunking:
    """How texts are split.

    strategy: "heading", "recursive" or "fixed".
    tokens: most tokens of what is embedded: prefix, passage and special tokens.
    overlap: tokens at most that neighbouring passages share; within a section with "heading".
    """

    strategy: str
    tokens: int
    overlap: int

    @property
    def id(self) -> str:
        """Names it in keys and in the lake, such as "heading-256-32"."""
        return f"{self.strategy}-{self.tokens}-{self.overlap}"

    @classmethod
    def from_id(cls, identity: str) -> "Chunking":
        strategy, tokens, overlap = identity.split("-")
        return cls(strategy, int(tokens), int(overlap))


def check_chunking(chunking: Chunking, window: int) -> None:
    """Raises ChunkingError for what a model that reads `window` tokens cannot embed."""
    if chunking.strategy not in STRATEGIES:
        raise ChunkingError(f"chunk.strategy is {chunking.strategy}; known: {', '.join(STRATEGIES)}.")
    if chunking.tokens > window:
        raise ChunkingError(
            f"chunk.tokens is {chunking.tokens}, but the model reads {window} tokens: what lies beyond would not be "
            f"found. Set chunk.tokens to {window} or less, or choose a model with a longer window."
        )
    if chunking.tokens < FEWEST_TOKENS:
        raise ChunkingError(f"chunk.tokens is {chunking.tokens}; {FEWEST_TOKENS} is the least.")
    if not 0 <= chunking.overlap <= chunking.tokens // 2:
        raise ChunkingError(
            f"chunk.overlap is {chunking.overlap}; with chunk.tokens {chunking.tokens} it may be 0 to "
            f"{chunking.tokens // 2}, half of it."
        )


@dataclass(frozen=True)
class Chunk:
    """One passage: `text` is document[start:end], `prefix + text` is what is embedded.

    start, end: Unicode code points. tokens: of prefix and text, special tokens included.
    page, last_page: where it begins and ends; None in a text without pages.
    """

    chunk_id: str
    ordinal: int
    start: int
    end: int
    text: str
    prefix: str
    content_hash: str
    tokens: int
    heading_path: str
    page: int | None
    last_page: int | None


@dataclass(frozen=True)
class Section:
    """A range of the text that no passage leaves. path: its headings, outermost first; above: without its own."""

    start: int
    end: int
    path: tuple[str, ...] = ()
    above: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prefix:
    text: str = ""
    tokens: int = 0


@dataclass(frozen=True)
class Passage:
    start: int
    end: int
    prefix: str
    tokens: int


class Splitter:
    """Splits texts for one model. Make one per process and keep it."""

    def __init__(self, model_path: str, chunking: Chunking):
        self.chunking = chunking
        self.tokenizer = TokenCounter(model_path)
        self.levels: Sequence[Break] = (WORD,) if chunking.strategy == "fixed" else (PARAGRAPH, SENTENCE, LINE, WORD)
        self.overlap_levels: Sequence[Break] = (WORD,) if chunking.strategy == "fixed" else (SENTENCE, WORD)

    def split(
        self,
        doc_id: str,
        text: str,
        headings: Sequence[dict[str, Any]],
        pages: Sequence[dict[str, Any]],
        title: str,
    ) -> list[Chunk]:
        """The passages of one text, in reading order.

        headings: start, end, level, text. pages: start, end, number. title: "" where the document has
        none of its own. Raises ChunkingError where chunk.tokens is too small for a single character.
        """
        sections = sections_of(text, headings)
        starts = [section.start for section in sections]
        bounds = sections if self.chunking.strategy == "heading" else [Section(0, len(text))]
        page_starts = [page["start"] for page in pages]
        seen: Counter[str] = Counter()
        chunks = []
        for passage in self.passages(text, bounds, title):
            passage_text = text[passage.start : passage.end]
            content = keys.content_hash(passage.prefix + passage_text)
            chunks.append(
                Chunk(
                    chunk_id=keys.chunk_id(doc_id, self.chunking.id, content, seen[content]),
                    ordinal=len(chunks),
                    start=passage.start,
                    end=passage.end,
                    text=passage_text,
                    prefix=passage.prefix,
                    content_hash=content,
                    tokens=passage.tokens,
                    heading_path=PATH_SEPARATOR.join(sections[bisect_right(starts, passage.start) - 1].path),
                    page=page_at(passage.start, page_starts, pages),
                    last_page=page_at(passage.end - 1, page_starts, pages),
                )
            )
            seen[content] += 1
        return chunks

    def passages(self, text: str, sections: Sequence[Section], title: str) -> Iterator[Passage]:
        # Section by section, so that what the tokenizer makes of one never depends on another.
        places = self.tokenizer.places(text, [(section.start, section.end) for section in sections])
        prefix_of = cache(self.prefix)
        for section in sections:
            # Its first passage begins with the heading itself.
            first = prefix_of(prefix_parts(title, section.path, section.above))
            rest = prefix_of(prefix_parts(title, section.path, section.path))
            yield from self.passages_of_section(text, section, places, first, rest)

    def prefix(self, parts: tuple[str, ...]) -> Prefix:
        """What is embedded before a passage: a third of the room at most.

        Too long, it loses its outermost parts; a part that is too long alone is cut.
        """
        limit = self.chunking.tokens // 3
        for first in range(len(parts)):
            prefix = PATH_SEPARATOR.join(parts[first:]) + PREFIX_END
            tokens = self.tokenizer.count(prefix)
            if tokens <= limit:
                return Prefix(prefix, tokens)
        if not parts:
            return Prefix()
        prefix = self.tokenizer.cut(parts[-1], limit - self.tokenizer.count(PREFIX_END)) + PREFIX_END
        return Prefix(prefix, self.tokenizer.count(prefix))

    def passages_of_section(
        self, text: str, section: Section, places: Places, first: Prefix, rest: Prefix
    ) -> Iterator[Passage]:
        """The passages of one section: each as long as fits, cut at the best place in its last half."""
        limit, token_starts = self.chunking.tokens, places.starts
        start, prefix = section.start, first
        # What lies before `done` stands in a passage already; start < done where passages overlap.
        done = after_space(text, start, section.end)
        while done < section.end:
            room = limit - self.tokenizer.special_tokens - prefix.tokens
            high = min(self.reach(token_starts, start, room), section.end)
            while True:
                if high <= done:
                    # With what it shares nothing new fits.
                    start, high = done, min(self.reach(token_starts, done, room), section.end)
                middle = start + (high - start) // 2
                cut = high if high == section.end else last_cut(text, start, max(middle, done), high, self.levels)
                begin, end = trimmed(text, start, cut)
                tokens = self.tokens(prefix, text, begin, end, places)
                if tokens <= limit:
                    break
                # The estimate was too low: a long word was cut, or words are not counted one by one.
                if cut - start == 1:
                    raise ChunkingError(f"chunk.tokens is {limit}: too few for the character {text[start]!r}.")
                high = start + max(1, (cut - start) * limit // tokens)
            yield Passage(begin, end, prefix.text, tokens)
            start = self.next_start(text, start, cut, token_starts, room)
            done = after_space(text, cut, section.end)
            prefix = rest

    def tokens(self, prefix: Prefix, text: str, begin: int, end: int, places: Places) -> int:
        """Of what is embedded, special tokens included; exactly."""
        known = places.count(text, begin, end)
        if known is None:
            return self.tokenizer.counts([prefix.text + text[begin:end]])[0]
        return known + prefix.tokens + self.tokenizer.special_tokens

    def reach(self, token_starts: Sequence[int], start: int, room: int) -> int:
        """Where a passage that begins at `start` ends at the latest, by an estimate of its tokens."""
        furthest = start + self.chunking.tokens * CHARACTERS_PER_TOKEN
        beyond = bisect_left(token_starts, start) + room
        return min(token_starts[beyond], furthest) if beyond < len(token_starts) else furthest

    def next_start(self, text: str, start: int, cut: int, token_starts: Sequence[int], room: int) -> int:
        """Where the passage after a cut begins: `overlap` tokens before it, or a little less."""
        overlap = min(self.chunking.overlap, room // 2)
        if not overlap or not token_starts:
            return cut
        back = token_starts[max(bisect_left(token_starts, cut) - overlap, 0)]
        # Not more than half of what was cut, so that each passage brings something new.
        back = max(back, start + (cut - start) // 2)
        return first_cut(text, start, back, cut, self.overlap_levels) if back < cut else cut


def sections_of(text: str, headings: Sequence[dict[str, Any]]) -> list[Section]:
    """The sections between headings, in order; together they cover the text. The first may have no heading."""
    sections = []
    start, open_headings, above = 0, [], ()
    for heading in sorted(headings, key=lambda heading: heading["start"]):
        sections.append(Section(start, heading["start"], names(open_headings), above))
        outer = [other for other in open_headings if other["level"] < heading["level"]]
        start, open_headings, above = heading["start"], [*outer, heading], names(outer)
    sections.append(Section(start, len(text), names(open_headings), above))
    return [section for section in sections if section.start < section.end]


def names(headings: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    texts = (" ".join(heading["text"].split()) for heading in headings)
    return tuple(text for text in texts if text)


def prefix_parts(title: str, path: tuple[str, ...], shown: tuple[str, ...]) -> tuple[str, ...]:
    """Title and headings to embed before a passage; a title that is also the outermost heading only once."""
    title = " ".join(title.split())
    titled = title and (not path or path[0].casefold() != title.casefold())
    return (title, *shown) if titled else shown


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space at its ends."""
    begin = after_space(text, start, end)
    return begin, begin + len(text[begin:end].rstrip())


def after_space(text: str, start: int, end: int) -> int:
    """The first place in a range that is no white space, else its end."""
    while start < end and text[start].isspace():
        start += 1
    return start


def page_at(place: int, page_starts: Sequence[int], pages: Sequence[dict[str, Any]]) -> int | None:
    index = bisect_right(page_starts, place) - 1
    return pages[index]["number"] if index >= 0 else None


@cache
def kept_splitter(model: Model, chunking: Chunking) -> Splitter:
    """One splitter per worker, kept over micro-batches."""
    return Splitter(model_here(model), chunking)


def chunks_of(batches: Iterator[pa.RecordBatch], model: Model, chunking: Chunking) -> Iterator[pa.RecordBatch]:
    """Rows of SCHEMA for rows of documents.

    Of a document are read: doc_id, uri, title, titled, doc_timestamp, text, headings, pages.
    """
    splitter = kept_splitter(model, chunking)
    rows: list[dict[str, Any]] = []
    for batch in batches:
        for number in range(batch.num_rows):
            # Row by row: a batch of long texts is not held twice.
            document = batch.slice(number, 1).to_pylist()[0]
            for chunk in splitter.split(
                document["doc_id"],
                document["text"] or "",
                document["headings"] or [],
                document["pages"] or [],
                document["title"] if document["titled"] else "",
            ):
                rows.append(vars(chunk) | {key: document[key] for key in ("doc_id", "uri", "title", "doc_timestamp")})
                if len(rows) == ROWS_PER_BATCH:
                    yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
                    rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
