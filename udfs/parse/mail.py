"""E-mail: .eml files of one message and mboxes of many."""

import re
from collections.abc import Iterator
from datetime import datetime
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import parsedate_to_datetime

from ..dates import in_utc, parse_date
from ..keys import bytes_hash
from .document import Date, Document, ParseError
from .draft import Draft, clean
from .encoding import decode, is_marked, wide

MEDIA_TYPE = "message/rfc822"

SHOWN = ("From", "To", "Cc", "Date")
SHOWN_WITHIN = ("Subject", *SHOWN)
KNOWN = {"from", "to", "cc", "bcc", "date", "subject", "message-id", "received", "mime-version", "content-type"}
LONGEST_HEADER = 1_000
SHORT_HASH = 12

# "From ana@example.org Fri May 17 09:15:00 2024" opens a message of an mbox.
FROM_LINE = re.compile(rb"^From .*$", re.MULTILINE)
FROM_DATE = re.compile(rb"\d{1,2}:\d\d.*\d{4}|\d{4}.*\d{1,2}:\d\d")
HEADER_LINE = re.compile(rb"[!-9;-~]+:")
EMPTY_LINES = re.compile(r"\n[ \t\n]*\n(?=[^\n])")
QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def parse_eml(data: bytes, name: str) -> list[Document]:
    """The file's one message. Raises ParseError where no header of an e-mail is."""
    if is_marked(data) or wide(data):
        data = decode(data).encode()
    from_line = FROM_LINE.match(data)
    if from_line:
        data = data[from_line.end() + 1 :]
    message = message_of(data)
    if not KNOWN & {key.lower() for key in message}:
        raise ParseError("it is no e-mail: it begins with none of an e-mail's headers")
    return [document_of(message, "")]


def parse_mbox(data: bytes, name: str) -> list[Document]:
    """A document per message; `part` is the Message-ID, or a hash of a message that has none.

    Of messages with one Message-ID and different content, the later ones' part ends in a hash.
    """
    documents: dict[str, Document] = {}
    contents: dict[str, str] = {}
    for from_line, written in messages(data):
        message = message_of(written)
        content = bytes_hash(written.strip())
        part = header(message, "Message-ID").strip() or f"hash:{content}"
        if contents.get(part, content) != content:
            part = f"{part} {content[:SHORT_HASH]}"
        contents[part] = content
        documents[part] = document_of(message, part, from_line)
    return list(documents.values())


def messages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The messages of an mbox, each with the end of the line that opens it ("ana@example.org Fri May ...")."""
    opening = [found for found in FROM_LINE.finditer(data) if is_opening(data, found)]
    if not opening and data.strip():
        raise ParseError('it is no mbox: no line "From ..." opens a message in it')
    ends = [*[found.start() for found in opening[1:]], len(data)][: len(opening)]
    for found, end in zip(opening, ends, strict=True):
        written = QUOTED_FROM.sub(rb"\1", data[found.end() + 1 : end])
        yield found[0][5:].decode("utf-8", "replace").strip(), written


def is_opening(data: bytes, found: re.Match[bytes]) -> bool:
    """Whether a line "From ..." opens a message, and is not a sentence that begins so."""
    start = found.start()
    is_dated = FROM_DATE.search(found[0]) is not None
    has_header = HEADER_LINE.match(data, found.end() + 1) is not None
    if start and not data[max(0, start - 4) : start].endswith((b"\n\n", b"\n\r\n")):
        return is_dated and has_header
    return is_dated or (has_header and len(found[0].split()) <= 2) or start == 0


def message_of(written: bytes) -> Message:
    return message_from_bytes(written, policy=policy.compat32)


def document_of(message: Message, part: str, from_line: str = "") -> Document:
    """A heading with the subject, who wrote to whom and when, the body, the names of the attachments."""
    subject = header(message, "Subject")
    draft = Draft()
    draft.heading(1, subject)
    draft.block("\n".join(f"{name}: {value}" for name in SHOWN if (value := header(message, name))))
    texts, attachments = contents_of(message)
    for text in texts:
        draft.block(EMPTY_LINES.sub("\n\n", clean(text)))
    if attachments:
        draft.block(f"Attachments: {', '.join(attachments)}")
    return draft.document(MEDIA_TYPE, part=part, title=subject, dates=dates_of(message, from_line))


def header(message: Message, name: str) -> str:
    """A header in plain words: decoded as far as it can be, on one line."""
    # As written: get() would put U+FFFD for bytes that are not ASCII.
    raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
    if not raw.isascii():
        raw = characters(raw.encode("utf-8", "surrogateescape"))
    return " ".join(clean(decoded(raw)).split())[:LONGEST_HEADER]


def dates_of(message: Message, from_line: str) -> list[Date]:
    """By the Date header, else by the last server that received it, else by the mbox."""
    written = [header(message, "Date"), header(message, "Received").rpartition(";")[2]]
    found = [mail_date(text) for text in written] + [parse_date(from_line.partition(" ")[2])]
    return [Date(at, "header") for at in found if at]


def mail_date(text: str) -> datetime | None:
    try:
        return in_utc(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return parse_date(text)


def contents_of(message: Message) -> tuple[list[str], list[str]]:
    """(the texts that a reader shows, the names of what is attached)."""
    name = message.get_filename()
    kind = message.get_content_type()
    if name or message.get_content_disposition() == "attachment":
        return [], [" ".join(clean(decoded(name)).split()) if name else kind]
    if kind == "multipart/alternative":
        return best_of(parts_of(message))
    if kind == "message/rfc822":
        return shown_within(parts_of(message))
    if message.is_multipart():
        texts, attachments = [], []
        for part in parts_of(message):
            more_texts, more_attachments = contents_of(part)
            texts += more_texts
            attachments += more_attachments
        return texts, attachments
    if kind == "text/html":
        from .html import text_of_html

        return [text_of_html(text_of(message))], []
    if message.get_content_maintype() == "text":
        return [text_of(message)], []
    return [], [] if kind.startswith("multipart/") else [kind]


def shown_within(messages: list[Message]) -> tuple[list[str], list[str]]:
    """A message that is part of another's text, as in a digest."""
    texts, attachments = [], []
    for message in messages:
        texts.append("\n".join(f"{name}: {value}" for name in SHOWN_WITHIN if (value := header(message, name))))
        more_texts, more_attachments = contents_of(message)
        texts += more_texts
        attachments += more_attachments
    return texts, attachments


def best_of(parts: list[Message]) -> tuple[list[str], list[str]]:
    """Of the same content in several forms: the plain text, else the first that has text."""
    attachments: list[str] = []
    for part in sorted(parts, key=lambda part: part.get_content_type() != "text/plain"):
        texts, attached = contents_of(part)
        attachments += attached
        if any(text.strip() for text in texts):
            return texts, attachments
    return [], attachments


def parts_of(message: Message) -> list[Message]:
    payload = message.get_payload()
    return [part for part in payload if isinstance(part, Message)] if isinstance(payload, list) else []


def decoded(raw: str) -> str:
    """A header without its "=?utf-8?...?="; as it stands where it is not what it says."""
    try:
        parts = [
            part.decode(charset or "ascii", "replace") if isinstance(part, bytes) else part
            for part, charset in decode_header(raw)
        ]
    except (ValueError, LookupError, HeaderParseError):
        return raw
    return "".join(parts) or raw


def text_of(part: Message) -> str:
    """A part's characters: by the charset that it names, if they can be; else by looking at the bytes."""
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset() or "us-ascii"
    try:
        return data.decode(charset)
    except (ValueError, LookupError):
        return characters(data)


def characters(data: bytes) -> str:
    """Text without a known charset; with control characters in it, it is text all the same."""
    try:
        return decode(data)
    except ParseError:
        return data.decode("utf-8", "replace")
