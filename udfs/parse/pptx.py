"""PPTX: each slide a page: its title as a heading, then its texts, tables and charts, then its notes."""

from collections.abc import Iterator

from .document import Document, ParseError
from .draft import Draft
from .office import Element, Package, attribute, child, children, local_name, number, relationship, rows_text, tidy

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
TITLES = frozenset(["title", "ctrTitle"])
# What a slide repeats from its master.
FURNITURE = frozenset(["dt", "ftr", "hdr", "sldNum", "sldImg"])
SLIDE_TITLE_LEVEL = 2


def parse_pptx(data: bytes, name: str) -> list[Document]:
    """The text of a presentation. Title from its properties, else from its first slide."""
    package = Package(data)
    path, root = package.main_part("ppt/presentation.xml")
    slides = slide_paths(package, path, root)
    draft = Draft()
    first_title = ""
    read = 0
    for page, slide in enumerate(slides, 1):
        draft.page(page)
        content = package.optional_xml(slide)
        if content is None:
            continue
        read += 1
        slide_title = write_slide(draft, package, slide, content)
        if page == 1:
            first_title = slide_title
    if slides and not read:
        raise ParseError(f"none of the presentation's {len(slides)} slides can be read: the file is damaged")
    title, dates = package.properties("pptx", name)
    return [draft.document(MEDIA_TYPE, title=title or first_title, dates=dates)]


def slide_paths(package: Package, path: str, presentation: Element) -> list[str]:
    """The slides' parts in the order in which they are shown."""
    targets = package.related(path, "slide")
    shown = [relationship(entry) for entry in children(child(presentation, "sldIdLst"), "sldId")]
    return [targets[key] for key in shown if key in targets] or list(targets.values())


def write_slide(draft: Draft, package: Package, path: str, root: Element) -> str:
    """Add one slide to the draft; gives its title."""
    shapes = list(shapes_of(child(root, "cSld", "spTree")))
    title_shape = next((shape for shape in shapes if placeholder(shape) in TITLES and text_in(shape)), None)
    title = " ".join(text_in(title_shape).split()) if title_shape is not None else ""
    draft.heading(SLIDE_TITLE_LEVEL, title)
    for shape in shapes:
        if shape is title_shape or placeholder(shape) in FURNITURE:
            continue
        if local_name(shape) == "graphicFrame":
            draft.block(frame_text(package, path, shape))
        else:
            draft.block(text_in(shape))
    notes = package.optional_xml(package.only(path, "notesSlide"))
    for shape in shapes_of(child(notes, "cSld", "spTree")):
        text = text_in(shape) if placeholder(shape) == "body" else ""
        draft.block(f"Notes: {text}" if text else "")
    return title


def shapes_of(tree: Element | None) -> Iterator[Element]:
    """The shapes of a slide in its own order, those of groups too."""
    for shape in tree if tree is not None else ():
        kind = local_name(shape)
        if kind in ("sp", "graphicFrame"):
            yield shape
        elif kind == "grpSp":
            yield from shapes_of(shape)
        elif kind == "AlternateContent":
            yield from shapes_of(next(iter(shape), None))


def placeholder(shape: Element) -> str | None:
    """What a shape holds the place of ("title", "body", ...); None for one that was drawn freely."""
    mark = child(shape, "nvSpPr", "nvPr", "ph")
    return None if mark is None else attribute(mark, "type") or "obj"


def text_in(shape: Element) -> str:
    """The paragraphs of a shape; those of the body of a slide as a list."""
    paragraphs = [
        (child(paragraph, "pPr"), tidy(paragraph_text(paragraph)).strip())
        for paragraph in children(child(shape, "txBody"), "p")
    ]
    paragraphs = [(properties, text) for properties, text in paragraphs if text]
    listed = placeholder(shape) in ("body", "obj") and len(paragraphs) > 1 and in_list_by_default(shape)
    lines = []
    for properties, text in paragraphs:
        marks = {local_name(mark) for mark in properties} if properties is not None else set()
        level = number(attribute(properties, "lvl")) if properties is not None else 0
        if "buNone" not in marks and (listed or level or marks & {"buChar", "buAutoNum", "buBlip"}):
            text = "  " * min(level or 0, 8) + "- " + " ".join(text.split())
        lines.append(text)
    return "\n".join(lines)


def in_list_by_default(shape: Element) -> bool:
    """Bodies have bullets unless the shape switches them off; notes have none."""
    tree = next((ancestor for ancestor in shape.iterancestors() if local_name(ancestor) in ("sld", "notes")), None)
    off = child(shape, "txBody", "lstStyle", "lvl1pPr", "buNone")
    return off is None and (tree is None or local_name(tree) == "sld")


def paragraph_text(parent: Element) -> str:
    pieces = []
    for element in parent:
        kind = local_name(element)
        if kind == "t":
            pieces.append(element.text or "")
        elif kind == "br":
            pieces.append("\n")
        elif kind == "tab":
            pieces.append(" ")
        elif kind == "AlternateContent":
            pieces.append(paragraph_text(element[0]) if len(element) else "")
        elif kind not in ("pPr", "rPr", "endParaRPr"):
            pieces.append(paragraph_text(element))
    return "".join(pieces)


def frame_text(package: Package, path: str, frame: Element) -> str:
    """What a frame shows: a table's rows, a chart's figures, a diagram's texts."""
    data = child(frame, "graphic", "graphicData")
    table = child(data, "tbl")
    if table is not None:
        return rows_text([one_line(cell) for cell in children(row, "tc")] for row in children(table, "tr"))
    chart = child(data, "chart")
    if chart is not None:
        root = package.optional_xml(package.related(path).get(relationship(chart)))
        return chart_text(root) if root is not None else ""
    diagram = child(data, "relIds")
    if diagram is not None:
        root = package.optional_xml(package.related(path).get(attribute(diagram, "dm") or ""))
        texts = [one_line(text) for text in root.iter("{*}t")] if root is not None else []
        return "\n".join(f"- {text}" for text in texts if text)
    return ""


def chart_text(root: Element) -> str:
    """A chart as a table: a column per series, a row per category."""
    title = " ".join(one_line(part) for part in root.iter("{*}title") if local_name(part.getparent()) == "chart")
    columns = [("", {})]
    for series in root.iter("{*}ser"):
        columns[0][1].update(points(child(series, "cat")) or points(child(series, "xVal")))
        name = " ".join(points(child(series, "tx")).values())
        columns.append((name, points(child(series, "val")) or points(child(series, "yVal"))))
    places = sorted({place for _, column in columns for place in column})
    rows = [[name for name, _ in columns]] + [[column.get(place, "") for _, column in columns] for place in places]
    return "\n".join(filter(None, [title, rows_text(rows)]))


def points(part: Element | None) -> dict[int, str]:
    """The values of a series by their place."""
    if part is None:
        return {}
    found = {number(point.get("idx")) or 0: one_line(point) for point in part.iter("{*}pt")}
    value = one_line(part)
    return found or ({0: value} if value else {})


def one_line(element: Element) -> str:
    """All text of an element, on one line."""
    paragraphs = [paragraph_text(part) for part in element.iter("{*}p")] or ["".join(element.itertext())]
    return " ".join(tidy(" ".join(paragraphs)).split())
