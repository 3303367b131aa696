import zipfile
from datetime import UTC, datetime
from io import BytesIO

import pptx
import pytest
from lakevec.udfs.parse.document import Date, Document, Heading, Page, ParseError
from lakevec.udfs.parse.pptx import parse_pptx
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Cm

PLACE = (Cm(1), Cm(1), Cm(5), Cm(5))


def saved(presentation) -> bytes:
    buffer = BytesIO()
    presentation.save(buffer)
    return buffer.getvalue()


def parsed(data: bytes) -> Document:
    [document] = parse_pptx(data, "file.pptx")
    return document


def with_part(data: bytes, name: str, content: bytes) -> bytes:
    """The file with one part replaced."""
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, content if entry == name else old.read(entry))
    return buffer.getvalue()


def three_slides() -> bytes:
    source = pptx.Presentation()
    title, bullets, blank = (source.slide_layouts[index] for index in (0, 1, 6))
    first = source.slides.add_slide(title)
    first.shapes.title.text, first.placeholders[1].text = "Quarter\vin brief", "May 2024"
    source.slides.add_slide(blank)
    third = source.slides.add_slide(bullets)
    third.shapes.title.text = "Plan"
    frame = third.placeholders[1].text_frame
    frame.text = "Hire"
    inner = frame.add_paragraph()
    inner.text, inner.level = "two drivers", 1
    third.notes_slide.notes_text_frame.text = "Ask Ann.\nAsk Bob."
    source.core_properties.created = datetime(2024, 5, 17, 12, 30, tzinfo=UTC)
    return saved(source)


def test_each_slide_is_a_page_with_its_title_as_heading():
    assert parsed(three_slides()) == Document(
        text="## Quarter in brief\n\nMay 2024\n\n## Plan\n\n- Hire\n  - two drivers\n\nNotes: Ask Ann.\nAsk Bob.",
        media_type="application/vnd.openxmlformats-officedocument.presentationml.presentation",
        title="Quarter in brief",
        headings=(Heading(0, 19, 2, "Quarter in brief"), Heading(31, 38, 2, "Plan")),
        pages=(Page(0, 29, 1), Page(29, 29, 2), Page(29, 88, 3)),
        dates=(Date(datetime(2024, 5, 17, 12, 30, tzinfo=UTC), "pptx"),),
    )


def test_tables_groups_and_charts_are_read_and_properties_give_the_title():
    source = pptx.Presentation()
    source.core_properties.title = "Figures"
    shapes = source.slides.add_slide(source.slide_layouts[6]).shapes
    table = shapes.add_table(2, 2, *PLACE).table
    table.cell(0, 0).text, table.cell(0, 1).text, table.cell(1, 0).text = "City", "Fare\nin €", "Bonn"
    group = shapes.add_group_shape().shapes.add_group_shape()
    group.shapes.add_textbox(*PLACE).text_frame.text = "漢字 עברית e\u0301 👩‍👩‍👧"
    chart = CategoryChartData()
    chart.categories = ["2023", "2024"]
    chart.add_series("Riders", (10, 20))
    shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *PLACE, chart)

    document = parsed(saved(source))

    assert document.text == ("City | Fare in €\nBonn\n\n漢字 עברית e\u0301 👩‍👩‍👧\n\n | Riders\n2023 | 10\n2024 | 20")
    assert (document.title, document.headings, document.dates) == ("Figures", (), ())


def test_slides_come_in_the_order_in_which_they_are_shown():
    source = pptx.Presentation()
    for word in ("one", "two"):
        source.slides.add_slide(source.slide_layouts[5]).shapes.title.text = word
    listed = source.slides._sldIdLst
    listed.append(listed[0])

    assert parsed(saved(source)).text == "## two\n\n## one"


def test_a_damaged_slide_does_not_lose_the_others():
    data = with_part(three_slides(), "ppt/slides/slide1.xml", b"<p:sld")

    document = parsed(data)

    assert document.text == "## Plan\n\n- Hire\n  - two drivers\n\nNotes: Ask Ann.\nAsk Bob."
    assert document.pages == (Page(0, 0, 1), Page(0, 0, 2), Page(0, 57, 3))


def test_a_file_of_damaged_slides_or_entities_is_a_parse_error():
    source = pptx.Presentation()
    source.slides.add_slide(source.slide_layouts[5]).shapes.title.text = "one"
    slide = "ppt/slides/slide1.xml"

    with pytest.raises(ParseError, match="none of the presentation's 1 slides"):
        parse_pptx(with_part(saved(source), slide, b"<p:sld"), "file.pptx")
    with pytest.raises(ParseError, match="none of the presentation's 1 slides"):
        parse_pptx(with_part(saved(source), slide, b'<!DOCTYPE d [<!ENTITY a "b">]><d>&a;</d>'), "file.pptx")
    with pytest.raises(ParseError, match="damaged or cut short"):
        parse_pptx(saved(source)[:5000], "file.pptx")
