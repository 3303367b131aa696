"""Slack exports: one document per channel and day, a message per block, times in UTC."""

import html
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath

from .document import Date, Document, ParseError, UnsupportedFormat
from .draft import Draft

MEDIA_TYPE = "application/x-slack-export"

DAY_FILE = re.compile(r"(?:^|/)(?P<channel>[^/]+)/(?P<day>\d{4}-\d\d-\d\d)\.json$")
# Who came and went is no content.
LEFT_OUT = {"channel_join", "channel_leave", "group_join", "group_leave", "bot_add", "bot_remove"}
# <@U024BE7LH>, <#C024BE7LR|general>, <!here>, <https://example.org|label>
MARK = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


def parse_slack_zip(data: bytes, name: str) -> list[Document]:
    """Every channel's every day; `part` is "channel/2024-05-17". Names come from the export's users."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = [match for entry in sorted(archive.namelist()) if (match := DAY_FILE.search(entry))]
            users = user_names(archive)
            days = [(match, archive.read(match.string)) for match in found]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ParseError(f"a damaged or encrypted zip archive: {error}") from error
    documents = []
    for match, written in days:
        messages = messages_of(written)
        if any(shown(message) for message in messages):
            part = match.string.removesuffix(".json")
            documents.append(document_of(messages, match["channel"], match["day"], part, users))
    if not documents:
        raise ParseError("a Slack export without a message in it")
    return documents


def parse_slack_day(data: bytes, name: str) -> list[Document]:
    """One day's file of an unpacked export; name is "channel/2024-05-17.json", for the channel's sake.

    Raises UnsupportedFormat for other JSON, an export's own users.json and channels.json included.
    """
    messages = messages_of(data)
    if not any(shown(message) for message in messages):
        raise ParseError("a day of a Slack export without a message in it")
    path = PurePosixPath(name)
    return [document_of(messages, path.parent.name, path.stem, "", {})]


def messages_of(data: bytes) -> list[dict]:
    """The messages of a day's file, in their order of time."""
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnsupportedFormat(f"not a Slack export: no valid JSON ({error})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnsupportedFormat("JSON that is no day of a Slack export is not read")
    messages = [entry for entry in entries if time_of(entry) is not None]
    if entries and not messages:
        raise UnsupportedFormat(
            "JSON without Slack messages is not read (of an export, users.json and channels.json are such)"
        )
    return sorted(messages, key=lambda message: float(message["ts"]))


def user_names(archive: zipfile.ZipFile) -> dict[str, str]:
    """User id -> name, from the export's users.json."""
    entry = next((entry for entry in archive.namelist() if PurePosixPath(entry).name == "users.json"), None)
    if not entry:
        return {}
    try:
        users = json.loads(archive.read(entry))
    except (ValueError, RecursionError):
        # Names are a nicety: the messages are read all the same, with ids in their place.
        return {}
    return {
        str(user["id"]): name
        for user in (users if isinstance(users, list) else [])
        if isinstance(user, dict) and "id" in user and (name := profile_name(user.get("profile")) or named(user))
    }


def named(user: dict) -> str:
    return str(user.get("real_name") or user.get("name") or "")


def profile_name(profile: object) -> str:
    if not isinstance(profile, dict):
        return ""
    return str(profile.get("real_name") or profile.get("display_name") or profile.get("name") or "")


def document_of(messages: list[dict], channel: str, day: str, part: str, users: dict[str, str]) -> Document:
    """A heading, then "Ana Lima (09:15): text" per message; answers follow what they answer, as quotes."""
    names = {**names_in(messages), **users}
    title = f"#{channel}, {day}" if channel else day
    draft = Draft()
    draft.heading(1, title)
    for message, is_answer in in_threads([message for message in messages if shown(message)]):
        said = f"{author(message, names)} ({time_of(message):%H:%M}): {text_of(message, names)}"
        draft.block("\n".join(f"> {line}" for line in said.split("\n")) if is_answer else said)
    first = next(at for message in messages if shown(message) and (at := time_of(message)))
    return draft.document(MEDIA_TYPE, part=part, title=title, dates=[Date(first, "slack")])


def shown(message: dict) -> bool:
    return message.get("subtype") not in LEFT_OUT and bool(text_of(message, {}))


def in_threads(messages: list[dict]) -> Iterator[tuple[dict, bool]]:
    """(message, whether it is an answer): answers after the message that they answer, if it is of this day."""
    answers: dict[str, list[dict]] = {}
    present = {str(message["ts"]) for message in messages}
    for message in messages:
        time, parent = str(message["ts"]), parent_of(message)
        if parent in present and parent != time:
            answers.setdefault(parent, []).append(message)
    for message in messages:
        time, parent = str(message["ts"]), parent_of(message)
        if parent == time or parent not in present:
            yield message, parent != time
            for answer in answers.get(time, []):
                yield answer, True


def parent_of(message: dict) -> str:
    return str(message.get("thread_ts") or message["ts"])


def time_of(message: dict) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(message["ts"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def names_in(messages: list[dict]) -> dict[str, str]:
    """User id -> name, from the profiles that stand with the messages."""
    return {
        str(message["user"]): name
        for message in messages
        if "user" in message and (name := profile_name(message.get("user_profile")))
    }


def author(message: dict, names: dict[str, str]) -> str:
    user = str(message.get("user") or message.get("bot_id") or "")
    return (
        names.get(user)
        or profile_name(message.get("user_profile"))
        or str(message.get("username") or "")
        or profile_name(message.get("bot_profile"))
        or user
        or "unknown"
    )


def text_of(message: dict, names: dict[str, str]) -> str:
    """What a message says, with what is attached: texts of cards, names of files."""
    said = [str(message.get("text") or "") or "".join(texts_in_blocks(message.get("blocks")))]
    for card in dicts(message.get("attachments")):
        told = [str(card.get(key) or "") for key in ("title", "text")]
        said += [line for line in told if line] or [str(card.get("fallback") or "")]
    said += [
        f"[file: {file.get('title') or file.get('name')}]" for file in dicts(message.get("files")) if named_file(file)
    ]
    return readable("\n".join(line for line in said if line.strip()), names)


def named_file(file: dict) -> bool:
    return bool(file.get("title") or file.get("name"))


def dicts(value: object) -> list[dict]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts_in_blocks(blocks: object) -> Iterator[str]:
    """The words of a message that is told in blocks alone."""
    for block in dicts(blocks):
        text = block.get("text")
        if isinstance(text, str):
            yield text
        elif isinstance(text, dict):
            yield f"{text.get('text', '')}\n"
        elif block.get("type") == "user":
            yield f"<@{block.get('user_id')}>"
        elif block.get("type") == "link":
            yield f"<{block.get('url')}>"
        yield from texts_in_blocks(block.get("elements"))
        if str(block.get("type", "")).startswith("rich_text_"):
            yield "\n"


def readable(text: str, names: dict[str, str]) -> str:
    """Slack's marks for people, channels and links in plain words; its three entities decoded."""
    marks: dict[str, Callable[[str, str], str]] = {
        "@": lambda user, label: f"@{names.get(user) or label or user}",
        "#": lambda channel, label: f"#{label or channel}",
        "!": lambda command, label: label or f"@{command.split('^')[0]}",
        "": lambda link, label: f"{label} ({link})" if label and label != link else link,
    }
    return html.unescape(MARK.sub(lambda mark: marks[mark[1]](mark[2], mark[3] or ""), text)).strip()
