"""DOCX: the body's paragraphs, lists and tables in their order, with headings; then the notes.

Headers, footers, comments and deleted text are left out.
"""

import email
import email.policy
import re
from dataclasses import dataclass

from .document import Document
from .draft import Draft
from .html import decode_html, text_of_html
from .office import Element, Package, attribute, child, children, local_name, number, rows_text, tidy

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HEADING_NAME = re.compile(r"heading\s?([1-9])", re.IGNORECASE)
LEFT_OUT = frozenset(["del", "moveFrom", "instrText", "delText", "delInstrText", "rt", "pPr", "rPr", "sectPr", "sdtPr"])
WRAPPERS = frozenset(["sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag"])
DEEPEST_STYLE = 20


@dataclass(frozen=True)
class Style:
    """What a paragraph style says of text: heading level (1 to 9), list and level in it, or nothing."""

    name: str
    based_on: str | None
    outline: int | None
    list_id: str | None
    list_level: int | None


def parse_docx(data: bytes, name: str) -> list[Document]:
    """The text of a Word document. Title from its properties, else from its paragraph of style "Title"."""
    package = Package(data)
    path, root = package.main_part("word/document.xml")
    writer = Writer(package, path)
    body = child(root, "body")
    writer.write_blocks(body if body is not None else root)
    writer.write_notes()
    title, dates = package.properties("docx", name)
    return [writer.draft.document(MEDIA_TYPE, title=title or writer.title, dates=dates)]


class Writer:
    def __init__(self, package: Package, path: str) -> None:
        self.package = package
        self.path = path
        self.draft = Draft()
        self.title = ""
        self.styles = styles_of(package.optional_xml(package.only(path, "styles")))
        self.bullets = bullets_of(package.optional_xml(package.only(path, "numbering")))
        self.list_lines: list[str] = []
        self.counts: dict[tuple[str, int], int] = {}
        self.boxes: list[Element] = []
        self.notes: list[tuple[str, str]] = []

    def write_blocks(self, parent: Element) -> None:
        """Paragraphs and tables below an element, in order."""
        for element in parent:
            kind = local_name(element)
            if kind == "p":
                self.write_paragraph(element)
            elif kind == "tbl":
                self.write_table(element)
            elif kind in WRAPPERS:
                self.write_blocks(element)
            elif kind == "altChunk":
                self.end_list()
                self.draft.block(self.imported(attribute(element, "id") or ""))
        if local_name(parent) not in WRAPPERS:
            self.end_list()

    def write_paragraph(self, paragraph: Element) -> None:
        text = self.text_of(paragraph)
        boxes, self.boxes = self.boxes, []
        if text:
            self.write_text(paragraph, text)
        for box in boxes:
            self.write_blocks(box)

    def write_text(self, paragraph: Element, text: str) -> None:
        properties = child(paragraph, "pPr")
        style_id = value(child(properties, "pStyle"))
        level = number(value(child(properties, "outlineLvl")))
        level = self.heading_level(style_id) if level is None else (level + 1 if level < 9 else None)
        list_id, list_level = self.list_of(properties, style_id)
        named = self.styles.get(style_id or "")
        is_title = (named.name if named else style_id or "").casefold() == "title"
        if is_title and not self.title:
            self.title = " ".join(text.split())
        if level or is_title:
            self.end_list()
            self.draft.heading(level or 1, text)
        elif list_id:
            self.list_lines.append(self.list_mark(list_id, list_level) + " ".join(text.split()))
        else:
            self.end_list()
            self.draft.block(text)

    def heading_level(self, style_id: str | None) -> int | None:
        """The level that a paragraph's style gives it, by its name or outline, its own or inherited."""
        for _ in range(DEEPEST_STYLE):
            style = self.styles.get(style_id or "")
            named = HEADING_NAME.fullmatch(style.name if style else style_id or "")
            if named:
                return int(named.group(1))
            if style is None:
                return None
            if style.outline is not None:
                return style.outline + 1 if style.outline < 9 else None
            style_id = style.based_on
        return None

    def list_of(self, properties: Element | None, style_id: str | None) -> tuple[str | None, int]:
        """The list that a paragraph belongs to ("0" takes it out of one), and its level there."""
        list_id = value(child(properties, "numPr", "numId"))
        level = number(value(child(properties, "numPr", "ilvl")))
        for _ in range(DEEPEST_STYLE):
            style = self.styles.get(style_id or "")
            if style is None or list_id is not None:
                break
            list_id = style.list_id
            level = style.list_level if level is None else level
            style_id = style.based_on
        return (None if list_id == "0" else list_id), min(max(level or 0, 0), 8)

    def list_mark(self, list_id: str, level: int) -> str:
        if self.bullets.get((list_id, level), True):
            return "  " * level + "- "
        for deeper in range(level + 1, 9):
            self.counts.pop((list_id, deeper), None)
        count = self.counts[list_id, level] = self.counts.get((list_id, level), 0) + 1
        return "  " * level + f"{count}. "

    def end_list(self) -> None:
        if self.list_lines:
            self.draft.block("\n".join(self.list_lines))
            self.list_lines = []

    def write_table(self, table: Element) -> None:
        """Rows as lines "a | b"; a table of one column only lays out what stands in it."""
        self.end_list()
        rows = [list(inner_elements(row, "tc")) for row in inner_elements(table, "tr")]
        if max(map(len, rows), default=0) < 2:
            for cell in (cell for row in rows for cell in row):
                self.write_blocks(cell)
            return
        self.draft.block(rows_text([self.cell_text(cell) for cell in row] for row in rows))

    def cell_text(self, cell: Element) -> str:
        texts = []
        for element in cell.iter("{*}p"):
            if inside(element, cell, "txbxContent") or inside(element, cell, "Fallback"):
                continue
            texts.append(" ".join(self.text_of(element).split()))
            boxes, self.boxes = self.boxes, []
            texts += [self.cell_text(box) for box in boxes]
        return " ".join(filter(None, texts))

    def text_of(self, paragraph: Element) -> str:
        """A paragraph's text; text boxes that hang on it are put aside for after it."""
        pieces: list[str] = []
        self.collect(paragraph, pieces)
        return tidy("".join(pieces)).strip()

    def collect(self, parent: Element, pieces: list[str]) -> None:
        for element in parent:
            kind = local_name(element)
            if kind == "t":
                pieces.append(element.text or "")
            elif kind in LEFT_OUT:
                continue
            elif kind in ("tab", "ptab"):
                pieces.append(" ")
            elif kind in ("br", "cr"):
                pieces.append("\n")
            elif kind == "noBreakHyphen":
                pieces.append("-")
            elif kind in ("footnoteReference", "endnoteReference"):
                pieces.append(self.note_mark(kind.removesuffix("Reference"), attribute(element, "id") or ""))
            elif kind == "AlternateContent":
                shown = next(iter(element), None)
                if shown is not None:
                    self.collect(shown, pieces)
            elif kind == "txbxContent":
                self.boxes.append(element)
            else:
                self.collect(element, pieces)

    def note_mark(self, kind: str, note_id: str) -> str:
        self.notes.append((kind, note_id))
        return f"[{len(self.notes)}]"

    def write_notes(self) -> None:
        """Foot- and endnotes, numbered as they are referred to."""
        parts = {
            kind: {attribute(note, "id"): note for note in root if local_name(note) == kind}
            for kind in ("footnote", "endnote")
            if (root := self.package.optional_xml(self.package.only(self.path, f"{kind}s"))) is not None
        }
        for index, (kind, note_id) in enumerate(list(self.notes), 1):
            note = parts.get(kind, {}).get(note_id)
            if note is not None:
                self.draft.block(f"[{index}] {self.cell_text(note)}")

    def imported(self, relationship: str) -> str:
        """The text of a web page that the document holds whole (Word shows it as part of the text)."""
        path = self.package.related(self.path, "aFChunk").get(relationship, "")
        data = self.package.read(path) or b""
        if path.lower().endswith((".mht", ".mhtml")):
            page = email.message_from_bytes(data, policy=email.policy.default).get_body(("html", "plain"))
            data = page.get_payload(decode=True) if page else b""
        if path.lower().endswith((".htm", ".html", ".xhtml", ".mht", ".mhtml", ".txt")) and isinstance(data, bytes):
            return text_of_html(decode_html(data))
        return ""


def styles_of(root: Element | None) -> dict[str, Style]:
    """The paragraph styles by their id."""
    styles = {}
    for style in children(root, "style"):
        properties = child(style, "pPr")
        styles[attribute(style, "styleId") or ""] = Style(
            name=value(child(style, "name")) or "",
            based_on=value(child(style, "basedOn")),
            outline=number(value(child(properties, "outlineLvl"))),
            list_id=value(child(properties, "numPr", "numId")),
            list_level=number(value(child(properties, "numPr", "ilvl"))),
        )
    return styles


def bullets_of(root: Element | None) -> dict[tuple[str, int], bool]:
    """Whether a level of a list has bullets (True) or numbers, by list id and level."""
    formats = {
        (attribute(definition, "abstractNumId"), number(attribute(level, "ilvl"))): value(child(level, "numFmt"))
        for definition in children(root, "abstractNum")
        for level in children(definition, "lvl")
    }
    return {
        (attribute(item, "numId") or "", level): formats.get((definition, level)) in (None, "bullet", "none")
        for item in children(root, "num")
        for definition in [value(child(item, "abstractNumId"))]
        for level in range(9)
    }


def inner_elements(parent: Element, name: str):
    """The children of a name, those inside wrappers (content controls, insertions) too."""
    for element in parent:
        kind = local_name(element)
        if kind == name:
            yield element
        elif kind in WRAPPERS:
            yield from inner_elements(element, name)


def inside(element: Element, top: Element, name: str) -> bool:
    """Whether an element of that name stands between `element` and `top`."""
    for ancestor in element.iterancestors():
        if ancestor is top:
            return False
        if local_name(ancestor) == name:
            return True
    return False


def value(element: Element | None) -> str | None:
    return attribute(element, "val") if element is not None else None
