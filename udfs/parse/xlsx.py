"""XLSX: each sheet a page, its name as a heading, its rows as lines "a | b | c".

Values are written as they are stored: formulas by their last result, numbers plainly, dates as
2024-05-17. Columns that are empty all the way down are left out; an empty row parts two blocks.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .document import Document, ParseError
from .draft import Draft
from .office import Element, Package, attribute, child, children, local_name, number, relationship, rows_text, tidy

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SHEET_NAME_LEVEL = 2

# Number formats that every Excel knows without their being written down.
DATES, TIMES = "yyyy-mm-dd", "hh:mm:ss"
BUILT_IN = {
    **dict.fromkeys([*range(14, 18), 22, *range(27, 32), 36, *range(50, 59)], DATES),
    **dict.fromkeys([18, 19, 20, 21, *range(32, 36), 45, 47], TIMES),
    46: "[h]:mm:ss",
}
# What a format says that is no part of a date: quoted and escaped text, colours and conditions.
NOT_DATE_PARTS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]|General', re.IGNORECASE)
REFERENCE = re.compile(r"([A-Z]{1,3})(\d+)")

Row = list[tuple[int, str]]


@dataclass
class Book:
    """What the cells of all sheets refer to."""

    strings: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    epoch: datetime = datetime(1899, 12, 30)


def parse_xlsx(data: bytes, name: str) -> list[Document]:
    """The text of a workbook. A sheet that is damaged is left empty; ParseError where all of them are."""
    package = Package(data)
    path, root = package.main_part("xl/workbook.xml")
    targets = package.related(path)
    sheets = [
        (tidy(attribute(sheet, "name") or ""), targets.get(relationship(sheet), ""))
        for sheet in children(child(root, "sheets"), "sheet")
    ]
    book = book_of(package, path, root)
    draft = Draft()
    damages = []
    for page, (title, sheet) in enumerate(sheets, 1):
        draft.page(page)
        try:
            blocks = [*blocks_of(package, sheet, book), *text_boxes(package, sheet)]
        except ParseError as error:
            damages.append(error)
            continue
        if blocks:
            draft.heading(SHEET_NAME_LEVEL, title)
        for block in blocks:
            draft.block(block)
    if damages and len(damages) == len(sheets):
        raise damages[0]
    title, dates = package.properties("xlsx", name)
    return [draft.document(MEDIA_TYPE, title=title, dates=dates)]


def book_of(package: Package, path: str, root: Element) -> Book:
    properties = child(root, "workbookPr")
    since_1904 = properties is not None and properties.get("date1904") in ("1", "true")
    strings = package.only(path, "sharedStrings")
    return Book(
        [string_text(item) for item in package.each(strings, "si")] if strings else [],
        formats_of(package.optional_xml(package.only(path, "styles"))),
        datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30),
    )


def formats_of(styles: Element | None) -> list[str]:
    """The number format of each cell style that shows a date or time; "" for the others."""
    codes = dict(BUILT_IN)
    for entry in children(child(styles, "numFmts"), "numFmt"):
        codes[number(entry.get("numFmtId")) or 0] = date_parts(entry.get("formatCode") or "")
    return [codes.get(number(style.get("numFmtId")) or 0, "") for style in children(child(styles, "cellXfs"), "xf")]


def date_parts(code: str) -> str:
    """The format with nothing but what shows dates and times, "" where it shows none."""
    bare = NOT_DATE_PARTS.sub("", code).split(";")[0].lower()
    return bare if re.search("[dmyhs]", bare) and not re.search("[0#?]", bare.partition("s")[0]) else ""


def string_text(item: Element) -> str:
    """A string of the shared table or of a cell, without the reading aids that go with Japanese."""
    pieces = []
    for part in item:
        kind = local_name(part)
        if kind == "t":
            pieces.append(part.text or "")
        elif kind == "r":
            pieces += [text.text or "" for text in children(part, "t")]
    return " ".join(tidy("".join(pieces)).split())


def blocks_of(package: Package, path: str, book: Book) -> list[str]:
    """The rows of a sheet, those without an empty row between them in one block."""
    blocks: list[list[Row]] = []
    last = 0
    place = 0
    for element in package.each(path, "row"):
        place = number(element.get("r")) or place + 1
        row = cells_of(element, book)
        if not row:
            continue
        if not blocks or place > last + 1:
            blocks.append([])
        blocks[-1].append(row)
        last = place
    used = sorted({column for block in blocks for row in block for column, _ in row})
    order = {column: index for index, column in enumerate(used)}
    return [rows_text(spread(row, order) for row in block) for block in blocks]


def spread(row: Row, order: dict[int, int]) -> list[str]:
    """A row with its cells in their columns, counted among the columns in use."""
    cells = [""] * (order[row[-1][0]] + 1)
    for column, text in row:
        cells[order[column]] = text
    return cells


def cells_of(row: Element, book: Book) -> Row:
    """Column (from 1) and text of a row's cells that hold something."""
    cells: dict[int, str] = {}
    column = 0
    for cell in children(row, "c"):
        column = column_of(cell.get("r") or "") or column + 1
        text = cell_text(cell, book)
        if text:
            cells[column] = text
    return sorted(cells.items())


def column_of(reference: str) -> int:
    """The column that "AB7" names, counted from 1; 0 where it names none."""
    match = REFERENCE.fullmatch(reference)
    column = 0
    for letter in match.group(1) if match else "":
        column = column * 26 + ord(letter) - 64
    return column


def cell_text(cell: Element, book: Book) -> str:
    kind = cell.get("t") or "n"
    if kind == "inlineStr":
        inline = child(cell, "is")
        return string_text(inline) if inline is not None else ""
    stored = child(cell, "v")
    value = (stored.text or "").strip() if stored is not None else ""
    if not value:
        return ""
    if kind == "s":
        index = number(value)
        return book.strings[index] if index is not None and 0 <= index < len(book.strings) else ""
    if kind == "b":
        return "TRUE" if value == "1" else "FALSE"
    if kind == "n":
        style = number(cell.get("s")) or 0
        shown_as = book.formats[style] if 0 <= style < len(book.formats) else ""
        return date_text(value, shown_as, book.epoch) if shown_as else number_text(value)
    return " ".join(tidy(value).split())


def number_text(value: str) -> str:
    """A number without what its storing as binary adds: 4.0999999999999996 is 4.1."""
    if value.lstrip("-").isdigit():
        return value
    try:
        stored = float(value)
    except ValueError:
        return value
    return str(int(stored)) if stored.is_integer() and abs(stored) < 1e21 else repr(stored)


def date_text(value: str, shown_as: str, epoch: datetime) -> str:
    """A count of days as the moment that it stands for; a plain number where it stands for none."""
    try:
        days = float(value)
        if shown_as.startswith("[") or (days >= 1 and not re.search("[dy]", shown_as) and "h" in shown_as):
            seconds = round(days * 86400)
            return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        if epoch.year < 1900 and 0 < days < 60:
            # Excel counts a 29 February 1900.
            days += 1 if days >= 1 else 0
        at = epoch + timedelta(seconds=round(days * 86400))
    except (ValueError, OverflowError):
        return number_text(value)
    clock = f"{at:%H:%M}" if at.second == 0 else f"{at:%H:%M:%S}"
    if 0 <= days < 1 and not re.search("[dy]", shown_as):
        return clock
    return f"{at:%Y-%m-%d}" if clock == "00:00" else f"{at:%Y-%m-%d} {clock}"


def text_boxes(package: Package, path: str) -> list[str]:
    """The texts that lie on a sheet rather than in its cells."""
    drawing = package.optional_xml(package.only(path, "drawing"))
    found = []
    for box in drawing.iter("{*}txBody") if drawing is not None else ():
        lines = ["".join(text.text or "" for text in line.iter("{*}t")) for line in children(box, "p")]
        found.append(tidy("\n".join(lines)).strip())
    return [text for text in found if text]
