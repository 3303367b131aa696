"""HTML: what a reader sees, as Markdown-like text, with selectolax (lexbor). Nothing is ever fetched."""

import codecs
import json
import re
from collections import deque
from collections.abc import Callable
from textwrap import dedent

from charset_normalizer import from_bytes
from selectolax.lexbor import LexborHTMLParser, LexborNode

from ..dates import parse_date
from .document import Date, Document
from .draft import Draft, clean
from .title import sensible_title

MEDIA_TYPE = "text/html"

# fmt: off
UNSEEN = frozenset([
    "head", "script", "style", "noscript", "template", "svg", "iframe", "object", "embed", "applet", "canvas",
    "audio", "video", "map", "noframes", "select", "textarea", "datalist", "annotation", "annotation-xml",
])
BLOCKS = frozenset([
    "html", "body", "address", "article", "aside", "blockquote", "button", "caption", "center", "details",
    "dialog", "div", "fieldset", "figcaption", "figure", "footer", "form", "frameset", "header", "hgroup", "hr",
    "legend", "main", "nav", "p", "search", "section", "summary", "table", "td", "th",
])
# Where a page says its own date, the best first. Names are compared in lower case.
PUBLISHED = [
    "article:published_time", "datepublished", "og:article:published_time", "og:published_time", "date",
    "dc.date", "dc.date.issued", "dcterms.issued", "dcterms.date", "dcterms.created", "dc.date.created",
    "pubdate", "publishdate", "publish_date", "publish-date", "publication_date", "sailthru.date",
    "parsely-pub-date", "citation_publication_date", "citation_date",
]
MODIFIED = [
    "article:modified_time", "og:updated_time", "datemodified", "dcterms.modified", "dc.date.modified",
    "last-modified", "lastmod", "revised",
]
# fmt: on
HEADINGS = {f"h{level}": level for level in range(1, 7)}
LISTS = frozenset(["ul", "ol", "menu", "dir", "dl"])
ITEMS = frozenset(["li", "dt", "dd"])
AS_WRITTEN = frozenset(["pre", "listing", "xmp", "plaintext"])
INVISIBLE = str.maketrans("", "", "\u00ad\u200b\u2060\ufeff")

# A row with one of these lays out a page, as does one with a single cell of prose.
LAYOUT = frozenset(HEADINGS) | {"table"}
LONGEST_LONE_CELL = 200

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
DECLARED = re.compile(rb"""<(?:meta|\?xml)[^<>]{0,500}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
TAGS = re.compile(rb"(?is)<(script|style)\b.*?</\1\s*>|<[^<>]*>")
# Browsers read these names as the larger set that pages really use.
READ_AS = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "iso8859-11": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}


def parse_html(data: bytes, name: str) -> list[Document]:
    """The text of one page: headings, paragraphs, lists, tables; scripts, menus and forms' fields left out."""
    tree = LexborHTMLParser(clean(decode_html(data)))
    draft = written(tree)
    return [draft.document(MEDIA_TYPE, title=title_of(tree, draft, name), dates=dates_of(tree))]


def text_of_html(html: str) -> str:
    """The text of a piece of HTML, of a mail's body for one; heading lines as "## Title"."""
    return written(LexborHTMLParser(clean(html))).document(MEDIA_TYPE).text


def written(tree: LexborHTMLParser) -> Draft:
    """The page as a draft. A page that is a menu and nothing else keeps its menu."""
    for unseen in (UNSEEN | {"nav"}, UNSEEN):
        writer = Writer(unseen)
        if tree.root is not None:
            writer.write(tree.root)
        if writer.draft.parts:
            break
    return writer.draft


class Writer:
    """Walks a page once and writes a draft. Lines of one list or table stay together in one block."""

    def __init__(self, unseen: frozenset[str]) -> None:
        self.unseen = unseen
        self.draft = Draft()
        self.words: list[str] = []
        self.lines: list[str] = []
        # One entry per open list: the number of its last item, or None where it has bullets.
        self.lists: list[int | None] = []
        self.mark = ""

    def write(self, root: LexborNode) -> None:
        walk(root, self.enter, self.leave)
        self.end_block()

    def enter(self, node: LexborNode) -> bool:
        """Take in what stands before a node's children; False where they are not to be visited."""
        if node.is_text_node:
            self.words.append((node.text_content or "").replace("\n", " "))
            return False
        tag = node.tag or ""
        if is_unseen(node, tag, self.unseen):
            return False
        if tag == "br":
            self.words.append("\n")
        elif tag in HEADINGS:
            self.end_block()
            self.draft.heading(HEADINGS[tag], one_line(node, self.unseen) or "")
            self.mark = ""
            return False
        elif tag in AS_WRITTEN:
            self.end_block()
            self.draft.block(dedent((node.text(deep=True) or "").translate(INVISIBLE).expandtabs(4)))
            return False
        elif tag in LISTS:
            self.end_line() if self.lists else self.end_block()
            self.lists.append(first_number(node) - 1 if tag == "ol" else None)
        elif tag in ITEMS:
            self.end_line()
            self.mark = self.next_mark(tag)
        elif tag == "tr":
            self.end_line()
            cells = cells_of(node, self.unseen)
            if cells is not None:
                self.lines += [" | ".join(cells)] if cells else []
                return False
            self.end_block()
        elif tag in BLOCKS:
            self.end_line() if self.lists and tag != "table" else self.end_block()
        return True

    def leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag in LISTS:
            self.end_line()
            self.lists.pop()
            if not self.lists:
                self.end_block()
        elif tag in ITEMS:
            self.end_line()
            self.mark = ""
        elif tag == "tr":
            self.end_block()
        elif tag in BLOCKS:
            self.end_line() if self.lists and tag != "table" else self.end_block()

    def next_mark(self, tag: str) -> str:
        if tag == "dt" or not self.lists:
            return "" if tag != "li" else "- "
        if tag == "dd":
            return "  "
        indent = "  " * (len(self.lists) - 1)
        number = self.lists[-1]
        if number is None:
            return f"{indent}- "
        self.lists[-1] = number + 1
        return f"{indent}{number + 1}. "

    def end_line(self) -> None:
        """Close the running line; what follows within its list item stands below it, indented."""
        if not self.words:
            return
        text = "".join(self.words)
        self.words = []
        for line in text.split("\n") if "\n" in text else [text]:
            line = " ".join(line.translate(INVISIBLE).split())
            if line:
                self.lines.append(self.mark + line)
                self.mark = " " * len(self.mark)

    def end_block(self) -> None:
        self.end_line()
        if self.lines:
            self.draft.block("\n".join(self.lines))
            self.lines = []


def walk(
    root: LexborNode, enter: Callable[[LexborNode], bool], leave: Callable[[LexborNode], None] = lambda _: None
) -> None:
    """Visit a tree without recursion (pages nest deeper than Python's stack).

    enter says whether to go into a node; leave is called after the children of those gone into.
    """
    end = root.mem_id
    node: LexborNode | None = root
    while node is not None:
        if enter(node):
            child = node.child
            if child is not None:
                node = child
                continue
            leave(node)
        while node.mem_id != end and node.next is None:
            node = node.parent
            if node is None:
                return
            leave(node)
        if node.mem_id == end:
            return
        node = node.next


def is_unseen(node: LexborNode, tag: str, unseen: frozenset[str]) -> bool:
    if not node.is_element_node or tag in unseen:
        return True
    attributes = node.attributes
    if attributes.get("role") == "navigation":
        return "nav" in unseen
    # MediaWiki's "[edit]" beside every heading.
    return tag == "span" and "mw-editsection" in (attributes.get("class") or "")


def one_line(root: LexborNode, unseen: frozenset[str], stop: frozenset[str] = frozenset()) -> str | None:
    """The text below a node on one line, or None where an element of `stop` stands in it."""
    words: list[str] = []
    stopped = False

    def enter(node: LexborNode) -> bool:
        nonlocal stopped
        if node.is_text_node:
            words.append(node.text_content or "")
            return False
        tag = node.tag or ""
        if stopped or is_unseen(node, tag, unseen):
            return False
        if tag in stop:
            stopped = True
        elif tag in ("br", "tr") or tag in ITEMS or tag in BLOCKS:
            words.append(" ")
        return not stopped

    walk(root, enter)
    return None if stopped else " ".join("".join(words).translate(INVISIBLE).split())


def cells_of(row: LexborNode, unseen: frozenset[str]) -> list[str] | None:
    """The cells of a table's row, or None where it only lays out a page: a table or heading within, or prose."""
    cells = []
    cell = row.child
    while cell is not None:
        if cell.tag in ("td", "th"):
            text = one_line(cell, unseen, LAYOUT)
            if text is None:
                return None
            cells.append(text)
        cell = cell.next
    while cells and not cells[-1]:
        cells.pop()
    filled = [text for text in cells if text]
    if len(filled) > 1:
        return cells
    return None if filled and len(filled[0]) > LONGEST_LONE_CELL else filled


def first_number(ordered: LexborNode) -> int:
    start = ordered.attributes.get("start") or ""
    return int(start) if re.fullmatch(r"-?\d{1,9}", start) else 1


def title_of(tree: LexborHTMLParser, draft: Draft, name: str) -> str:
    """What <title> says, else the first heading of the highest level that has any."""
    for title in tree.css("head > title"):
        text = sensible_title(title.text(deep=True) or "", name)
        if text:
            return text
    first = next((heading for heading in draft.headings if heading.level == 1), None)
    return first.text if first else ""


def dates_of(tree: LexborHTMLParser) -> list[Date]:
    """When the page says it was published, then when it says it was changed."""
    metas: dict[str, str] = {}
    for meta in tree.css("meta[content]"):
        attributes = meta.attributes
        for key in ("property", "name", "itemprop", "http-equiv"):
            if attributes.get(key):
                metas.setdefault((attributes[key] or "").strip().lower(), attributes.get("content") or "")
    linked = [script.text(deep=True) or "" for script in tree.css('script[type="application/ld+json"]')]
    times = tree.css('time[itemprop="datePublished"][datetime], time[pubdate][datetime]') or tree.css(
        "article time[datetime], main time[datetime]"
    )
    texts = [metas.get(key, "") for key in PUBLISHED]
    texts += [linked_date(text, "datePublished") or linked_date(text, "dateCreated") for text in linked]
    texts += [time.attributes.get("datetime") or "" for time in times[:1]]
    texts += [metas.get(key, "") for key in MODIFIED]
    texts += [linked_date(text, "dateModified") for text in linked]
    moments = [parse_date(text) for text in texts if text.strip()]
    return [Date(moment, "html") for moment in dict.fromkeys(moments) if moment is not None]


def linked_date(text: str, key: str) -> str:
    """The first value of a key in a JSON-LD script, outer objects before inner ones; "" where there is none."""
    try:
        waiting = deque([json.loads(text)])
    except (ValueError, RecursionError):
        # Many pages carry broken JSON-LD; it is an extra.
        return ""
    while waiting:
        value = waiting.popleft()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            if isinstance(value.get(key), str):
                return value[key]
            waiting.extend(value.values())
    return ""


def decode_html(data: bytes) -> str:
    """The page's text: by its byte order mark, as UTF-8 where it is that, by what it declares, by guess."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    head = data[:4096]
    if head.count(0) > len(head) // 4:
        return data.decode("utf-16-le" if head[1::2].count(0) > head[0::2].count(0) else "utf-16-be", "replace")
    declared = DECLARED.search(data, 0, 200_000)
    encoding = python_name(declared.group(1).decode("ascii", "replace")) if declared else ""
    try:
        # ISO-2022-JP and its like are plain ASCII to look at.
        text = data.decode("utf-8")
        return data.decode(encoding, "replace") if encoding.startswith("iso2022") and text.isascii() else text
    except UnicodeDecodeError:
        pass
    if encoding and not encoding.startswith(("utf_16", "utf-16", "utf_32", "utf-32")):
        text = data.decode(encoding, "replace")
        if text.count("\ufffd") <= len(text) // 1000:
            return text
    guess = from_bytes(TAGS.sub(b" ", data[:200_000])).best()
    return data.decode(guess.encoding if guess else "cp1252", "replace")


def python_name(encoding: str) -> str:
    """The codec for a declared encoding, or "" where Python knows none."""
    try:
        known = codecs.lookup(encoding).name
    except LookupError:
        return ""
    return READ_AS.get(known, known)
