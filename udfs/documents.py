"""From files to documents: Arrow rows of files in, Arrow rows of documents and of outcomes out.

Every file gives one row that says what became of it (`doc_id` is null there), after the rows of
its documents. A file that fails costs nothing but itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import PurePosixPath

import pyarrow as pa

from .dates import document_date
from .keys import bytes_hash, doc_id
from .parse.document import Document, ParseError
from .parse.draft import clean
from .parse.isolated import IsolatedParser, ParserFailedError

HEADINGS = pa.list_(
    pa.struct([("start", pa.int32()), ("end", pa.int32()), ("level", pa.int32()), ("text", pa.string())])
)
PAGES = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("number", pa.int32())]))

SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("modified_at", pa.timestamp("us", tz="UTC")),
        # what became of the file: parsed, quarantined, touched (other time, same bytes), vanished, forgotten
        ("state", pa.string()),
        ("hash", pa.string()),
        ("documents", pa.int32()),
        ("error_stage", pa.string()),
        ("error_class", pa.string()),
        ("error_message", pa.string()),
        # documents of it that stay away
        ("forgotten", pa.list_(pa.string())),
        # one document
        ("doc_id", pa.string()),
        ("part", pa.string()),
        ("title", pa.string()),
        ("titled", pa.bool_()),
        ("media_type", pa.string()),
        ("text", pa.string()),
        ("headings", HEADINGS),
        ("pages", PAGES),
        ("doc_timestamp", pa.timestamp("us", tz="UTC")),
        ("doc_timestamp_origin", pa.string()),
    ]
)

# A batch is handed on when its texts reach this many characters: memory stays flat over large files.
CHARACTERS_PER_BATCH = 16_000_000
LONGEST_MESSAGE = 1_000

# A file's bytes are held by the worker and by the parser at once, and workers run side by side:
# parse.memory_mb bounds the parser alone.
LARGEST_FILE_MB = 512


@dataclass(frozen=True)
class Limits:
    """What parsing one file may take."""

    timeout_seconds: float
    memory_mb: int


@dataclass(frozen=True)
class Forgotten:
    """What was erased from one file and must not come back with it: these documents, or (None) all of it."""

    uri: str
    doc_ids: tuple[str, ...] | None

    def holds(self, part: str) -> bool:
        return self.doc_ids is None or doc_id(self.uri, part) in self.doc_ids


@cache
def kept_parser(limits: Limits) -> IsolatedParser:
    """One child process per worker, kept over files and micro-batches."""
    return IsolatedParser(limits.timeout_seconds, limits.memory_mb)


def documents_of(
    batches: Iterator[pa.RecordBatch],
    read: Callable[[str], bytes],
    limits: Limits,
    forgotten: Mapping[str, tuple[Forgotten, ...]],
) -> Iterator[pa.RecordBatch]:
    """Rows of SCHEMA for rows of (uri, size, modified_at, known_hash, forgotten).

    known_hash is the hash of the bytes that were parsed before, or null; equal bytes are not parsed
    again. forgotten, of a row: doc_ids of the file that stay away; of the whole: what stays away under
    any name, by the hash of the file's bytes.
    """
    rows: list[dict] = []
    characters = 0
    for batch in batches:
        for file in batch.to_pylist():
            for row in rows_of_file(file, read, limits, forgotten):
                rows.append(row)
                characters += len(row.get("text") or "")
                if characters >= CHARACTERS_PER_BATCH:
                    yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
                    rows, characters = [], 0
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def rows_of_file(
    file: dict, read: Callable[[str], bytes], limits: Limits, forgotten: Mapping[str, tuple[Forgotten, ...]]
) -> list[dict]:
    outcome = {key: file[key] for key in ("uri", "size", "modified_at", "forgotten")}
    if file["size"] > min(limits.memory_mb, LARGEST_FILE_MB) * 2**20:
        most = f"the {LARGEST_FILE_MB} MB that are read"
        if limits.memory_mb < LARGEST_FILE_MB:
            most = f"parse.memory_mb = {limits.memory_mb} can hold"
        size = f"{file['size'] / 2**20:,.0f} MB"
        error = ParserFailedError("FileTooLarge", f"{size} are more than {most}; split the file")
        return [{**outcome, "state": "quarantined", **failure("read", error)}]
    try:
        data = read(file["uri"])
    except FileNotFoundError:
        # Gone since it was listed: the next listing says the same.
        return [{**outcome, "state": "vanished"}]
    except OSError as error:
        return [{**outcome, "state": "quarantined", **failure("read", error)}]
    outcome["hash"] = bytes_hash(data)
    if outcome["hash"] == file["known_hash"]:
        return [{**outcome, "state": "touched"}]
    elsewhere = forgotten.get(outcome["hash"], ())
    if any(each.doc_ids is None for each in elsewhere):
        return [{**outcome, "state": "forgotten"}]
    # The folder is part of the name: a day of a Slack export is known by its channel's folder.
    name = "/".join(PurePosixPath(file["uri"]).parts[-2:])
    try:
        documents = kept_parser(limits).parse(data, name)
    except ParseError as error:
        return [{**outcome, "state": "quarantined", **failure("parse", error)}]
    held = [Forgotten(file["uri"], tuple(file["forgotten"] or ())), *elsewhere]
    away = {doc_id(file["uri"], d.part) for d in documents if any(each.holds(d.part) for each in held)}
    # A key twice would end the MERGE of everybody's rows: the later of two equal parts holds.
    rows = {row["doc_id"]: row for row in (row_of_document(d, file) for d in documents) if row["doc_id"] not in away}
    outcome["forgotten"] = sorted(away.union(file["forgotten"] or ())) or None
    return [*rows.values(), {**outcome, "state": "parsed", "documents": len(rows)}]


def row_of_document(document: Document, file: dict) -> dict:
    name = PurePosixPath(file["uri"]).name
    date = document_date(document.dates, name, file["modified_at"], datetime.now(UTC))
    return {
        "uri": file["uri"],
        "doc_id": doc_id(file["uri"], document.part),
        "part": document.part,
        "title": document.title or name,
        "titled": bool(document.title),
        "media_type": document.media_type,
        "text": document.text,
        "headings": [vars(heading) for heading in document.headings],
        "pages": [vars(page) for page in document.pages],
        "doc_timestamp": date.at,
        "doc_timestamp_origin": date.origin,
    }


def failure(stage: str, error: Exception) -> dict:
    return {
        "error_stage": stage,
        "error_class": getattr(error, "error_class", None) or type(error).__name__,
        "error_message": clean(str(error))[:LONGEST_MESSAGE],
    }
