"""What Word, PowerPoint and Excel files share: a zip of XML parts that name one another.

Read straight from the zip with lxml: entities are never expanded, nothing outside the file is ever opened,
and both dialects (transitional and strict) are one, since elements are known by their local names.
"""

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from ..dates import parse_date
from .document import Date, EncryptedFile, ParseError
from .draft import clean
from .title import sensible_title

# An element of a part; lxml brings no types.
Element = Any

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Unpacked, a part may be larger than packed by so much; text compresses some tenfold.
LARGEST_PART = 1 << 30
# When the templates were made that python-docx and python-pptx begin with: no date of a document.
TEMPLATE_DATES = ("2013-12-23T23:15:00Z", "2013-01-27T09:14:16Z", "2013-01-27T09:15:58Z")


SAFELY = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}


class Package:
    """The parts of one Office file. Raises EncryptedFile or ParseError where it is none that can be read."""

    def __init__(self, data: bytes) -> None:
        if data.startswith(OLE):
            if "EncryptedPackage".encode("utf-16-le") in data:
                raise EncryptedFile("the Office file asks for a password")
            raise ParseError("this is an old binary Office file (.doc, .ppt, .xls): save it in the newer format")
        try:
            self.zip = zipfile.ZipFile(BytesIO(data))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ParseError(f"the Office file is damaged or cut short: {error}") from error
        self.names = {name.replace("\\", "/").lstrip("/").lower(): name for name in self.zip.namelist()}

    def read(self, path: str) -> bytes | None:
        """The bytes of a part, or None where there is no such part."""
        name = self.names.get(path.lower())
        if name is None:
            return None
        if self.zip.getinfo(name).file_size > LARGEST_PART:
            raise ParseError(f"part {path} of the Office file unpacks to more than {LARGEST_PART >> 20} MB")
        try:
            return self.zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise ParseError(f"part {path} of the Office file is damaged: {error}") from error

    def xml(self, path: str) -> Element | None:
        """The root element of a part, or None where there is no such part."""
        data = self.read(path)
        if data is None:
            return None
        try:
            root = etree.fromstring(data, etree.XMLParser(**SAFELY))
        except etree.XMLSyntaxError as error:
            raise ParseError(f"part {path} of the Office file is not XML: {error}") from error
        refuse_entities(root, path)
        return root

    def each(self, path: str, name: str) -> Iterator[Element]:
        """The elements of a name in a part, one at a time: a part of millions of rows stays small in memory."""
        data = self.read(path)
        if data is None:
            return
        try:
            for _, element in etree.iterparse(BytesIO(data), tag=f"{{*}}{name}", **SAFELY):
                refuse_entities(element, path)
                yield element
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
        except etree.XMLSyntaxError as error:
            raise ParseError(f"part {path} of the Office file is not XML: {error}") from error

    def optional_xml(self, path: str | None) -> Element | None:
        """As xml, but a damaged part counts as missing: for parts that a text can do without."""
        try:
            return self.xml(path) if path else None
        except ParseError:
            return None

    def related(self, path: str, *kinds: str) -> dict[str, str]:
        """Relationship id to the path of the part, of all or some kinds ("slide"), as `path` names them."""
        folder, name = posixpath.split(path)
        rels = self.optional_xml(posixpath.join(folder, "_rels", f"{name}.rels"))
        found = {}
        for rel in rels if rels is not None else []:
            kind = (rel.get("Type") or "").rpartition("/")[2]
            target = unquote(rel.get("Target") or "").replace("\\", "/")
            if rel.get("TargetMode") == "External" or not target or (kinds and kind not in kinds):
                continue
            joined = target.lstrip("/") if target.startswith("/") else posixpath.join(folder, target)
            found[rel.get("Id") or ""] = posixpath.normpath(joined)
        return found

    def only(self, path: str, kind: str) -> str | None:
        """The first part of a kind that `path` names, or None."""
        return next(iter(self.related(path, kind).values()), None)

    def main_part(self, usual: str) -> tuple[str, Element]:
        """Path and root of the part that the file is about. usual: where it lies in most files."""
        for path in (self.only("", "officeDocument"), usual):
            root = self.xml(path) if path else None
            if path and root is not None:
                return path, root
        raise ParseError(f"the zip holds no {usual}: it is not the kind of Office file that its name says")

    def properties(self, origin: str, name: str) -> tuple[str, list[Date]]:
        """The title and the dates (created, then modified) in the file's core properties."""
        core = self.optional_xml(self.only("", "core-properties") or "docProps/core.xml")
        fields = {local_name(field): field.text or "" for field in core} if core is not None else {}
        texts = [fields.get("created", "").strip(), fields.get("modified", "").strip()]
        moments = [parse_date(text) for text in texts if text and text not in TEMPLATE_DATES]
        dates = [Date(moment, origin) for moment in dict.fromkeys(moments) if moment is not None]
        return sensible_title(fields.get("title", ""), name), dates


def refuse_entities(element: Element, path: str) -> None:
    if element.getroottree().docinfo.doctype:
        raise ParseError(f"part {path} of the Office file declares entities, as no Office program does")


def local_name(element: Element) -> str:
    """An element's name without its namespace; "" for comments and the like."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Element, name: str) -> str | None:
    """An attribute by its name without namespace."""
    for key, value in element.attrib.items():
        if str(key).rpartition("}")[2] == name:
            return str(value)
    return None


def child(element: Element | None, *path: str) -> Element | None:
    """The first element down a path of names, or None."""
    for name in path:
        if element is None:
            return None
        element = next((inner for inner in element if local_name(inner) == name), None)
    return element


def children(element: Element | None, name: str) -> Iterator[Element]:
    for inner in element if element is not None else ():
        if local_name(inner) == name:
            yield inner


def number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d{1,9}", text) else None


def relationship(element: Element) -> str:
    """The relationship that an element names: r:id, beside which an id of its own may stand."""
    return next((str(value) for key, value in element.attrib.items() if str(key).endswith("relationships}id")), "")


def tidy(text: str) -> str:
    """Valid text without the soft hyphens that mark where a word might be cut."""
    return clean(text).replace("\u00ad", "")


def rows_text(rows: Iterable[Iterable[str]]) -> str:
    """Rows of cells as lines "a | b", without empty cells at their ends and empty rows."""
    lines = []
    for row in rows:
        cells = list(row)
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            lines.append(" | ".join(cells))
    return "\n".join(lines)
