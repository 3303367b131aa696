"""Markdown, kept as it is but for its headings, which all become "# Title" lines, and its front matter."""

import re
import tomllib
from collections.abc import Iterator
from html import unescape

import yaml

from ..dates import parse_date
from .document import Date, Document
from .draft import Draft, clean
from .encoding import decode

MEDIA_TYPE = "text/markdown"

YAML_FRONT = re.compile(r"---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
TOML_FRONT = re.compile(r"\+\+\+[ \t]*\n(.*?\n)??\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)
# Front matter that is no valid YAML is still read line by line.
FRONT_LINE = re.compile(r"^([A-Za-z][\w -]*):[ \t]+(.+)$", re.MULTILINE)
# In the order of belief: when it was published, when written, when changed.
DATES = ["date", "published", "publishdate", "pubdate", "datepublished", "publishedat", "created", "createdat"]
DATES += ["datecreated", "updated", "updatedat", "modified", "lastmod", "lastmodified", "lastupdated"]

# A longer line is text, whatever its marks.
LONGEST_HEADING = 500

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
# What a paragraph line does not begin with: indented code, lists, quotes, tables, HTML.
NO_PARAGRAPH = re.compile(r"\s{4}|\s*(?:[-*+>|<]|\d+[.)]\s|#{1,6}\s)")

IMAGE_OR_LINK = re.compile(r"!?\[((?:[^\[\]\\]|\\.)*)\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\]]*\])")
ANCHOR = re.compile(r"\s*\{[:#.][^{}]*\}\s*$")
EMPHASIS = re.compile(r"(?<!\w)(\*\*\*|\*\*|\*|___|__|_|`+|~~)(?=\S)(.+?)(?<=\S)\1(?!\w)")
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->")


def parse_markdown(data: bytes, name: str) -> list[Document]:
    """One document. Its title is the front matter's, or the first heading of level 1."""
    front, body = split_front_matter(clean(decode(data)).lstrip("\ufeff"))
    draft = Draft()
    for part in headings_and_text(body):
        if isinstance(part, str):
            draft.block(part)
        else:
            draft.heading(*part)
    first = next((heading.text for heading in draft.headings if heading.level == 1), "")
    dates = [Date(at, "front matter") for key in DATES if (at := parse_date(front.get(key, "")))]
    return [draft.document(MEDIA_TYPE, title=without_marks(front.get("title", "")) or first, dates=dates)]


def split_front_matter(text: str) -> tuple[dict[str, str], str]:
    """Its plain fields, by name in small letters without - and _, and the text after it.

    What opens like front matter but holds no fields stays in the text.
    """
    text = text.lstrip("\n")
    for pattern, read in ((YAML_FRONT, yaml_fields), (TOML_FRONT, toml_fields)):
        found = pattern.match(text)
        if found:
            written = found[1] or ""
            fields = read(written)
            if fields is None:
                fields = {key: value.strip("\"' ") for key, value in FRONT_LINE.findall(written)}
            if fields or not written.strip():
                plain = {
                    re.sub(r"[-_ ]", "", str(key).lower()): str(value)
                    for key, value in fields.items()
                    if not isinstance(value, list | dict) and value is not None
                }
                return plain, text[found.end() :]
    return {}, text


def yaml_fields(written: str) -> dict | None:
    try:
        # The base loader makes strings of everything: no date that is out of range, no tags.
        fields = yaml.load(written, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def toml_fields(written: str) -> dict | None:
    try:
        return tomllib.loads(written)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return None


def headings_and_text(body: str) -> Iterator[tuple[int, str] | str]:
    """(level, text) of each heading outside of code blocks and comments, and the text between them."""
    lines = body.split("\n")
    between: list[str] = []
    fence = ""
    in_comment = False
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        heading = None
        opening = FENCE.match(line)
        if fence:
            if opening and opening[1].startswith(fence) and not line.strip(" " + fence[0]):
                fence = ""
        elif in_comment or "<!--" in line:
            in_comment = "-->" not in line[line.rfind("<!--") + 1 if "<!--" in line else 0 :]
        elif opening and not (opening[1][0] == "`" and "`" in line[opening.end() :]):
            fence = opening[1]
        elif len(line) > LONGEST_HEADING:
            pass
        elif atx := ATX.match(line):
            heading = len(atx[1]), without_marks(atx[2] or "")
        elif place < len(lines) and is_lone_line(line, between) and (line_below := SETEXT.match(lines[place])):
            heading = (1 if line_below[1][0] == "=" else 2), without_marks(line)
            place += 1
        if heading:
            if between:
                yield "\n".join(between)
                between = []
            yield heading
        else:
            between.append(line)
    if between:
        yield "\n".join(between)


def is_lone_line(line: str, before: list[str]) -> bool:
    """Whether it begins a paragraph: what is underlined further down is more often a table or a rule."""
    return bool(line.strip()) and not NO_PARAGRAPH.match(line) and not (before and before[-1].strip())


def without_marks(text: str) -> str:
    """A heading's words without links, emphasis, code marks, tags and anchors."""
    text = ANCHOR.sub("", TAG.sub("", IMAGE_OR_LINK.sub(r"\1", text)))
    text = EMPHASIS.sub(r"\2", EMPHASIS.sub(r"\2", text))
    return unescape(ESCAPED.sub(r"\1", text)).strip()
