import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from io import BytesIO

import openpyxl
import pytest
from lakevec.udfs.parse.document import Date, Document, Heading, Page, ParseError
from lakevec.udfs.parse.xlsx import parse_xlsx

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def saved(workbook: openpyxl.Workbook) -> bytes:
    buffer = BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def parsed(data: bytes) -> Document:
    [document] = parse_xlsx(data, "file.xlsx")
    return document


def bare(rows: str, namespace: str = MAIN, before: str = "", properties: str = "") -> bytes:
    """The smallest workbook: one sheet "S" of the given rows, in XML."""
    buffer = BytesIO()
    link = f'<Relationship Id="r1" Type="{LINKS}/worksheet" Target="worksheets/sheet1.xml"/>'
    parts = {
        "xl/workbook.xml": f'<workbook xmlns="{namespace}" xmlns:r="{LINKS}">{properties}'
        '<sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f"<Relationships>{link}</Relationships>",
        "xl/worksheets/sheet1.xml": f'{before}<worksheet xmlns="{namespace}"><dimension ref="A1:XFD1048576"/>'
        f"<sheetData>{rows}</sheetData></worksheet>",
    }
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_each_sheet_is_a_page_with_its_name_as_heading():
    workbook = openpyxl.Workbook()
    workbook.properties.title = "Fares"
    workbook.properties.created = datetime(2024, 5, 17, 12, 30)
    fares = workbook.active
    fares.title = "Fares 2024"
    fares.append(["City", "Fare", None])
    fares.append(["Bonn", 12.5, None])
    fares.append([None, None, None])
    fares.append(["漢字 עברית 👩‍👩‍👧", None, "two\nlines"])
    workbook.create_sheet("Empty")
    workbook.create_sheet("Last")["C7"] = True

    document = parsed(saved(workbook))

    # The second date is that of saving.
    assert document.dates[0] == Date(datetime(2024, 5, 17, 12, 30, tzinfo=UTC), "xlsx")
    assert replace(document, dates=()) == Document(
        text="## Fares 2024\n\nCity | Fare\nBonn | 12.5\n\n漢字 עברית 👩‍👩‍👧 |  | two lines\n\n## Last\n\nTRUE",
        media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        title="Fares",
        headings=(Heading(0, 13, 2, "Fares 2024"), Heading(71, 78, 2, "Last")),
        pages=(Page(0, 69, 1), Page(69, 69, 2), Page(69, 84, 3)),
    )


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (4.1, "General", "4.1"),
        (4.0999999999999996, "0.00", "4.1"),
        (12345678901234567, "0", "12345678901234570"),
        (-3.0, "General", "-3"),
        (0.18, "0%", "0.18"),
        (7, '0 "days"', "7"),
        (date(2024, 5, 17), "yyyy-mm-dd", "2024-05-17"),
        (date(1900, 1, 1), "dd/mm/yyyy", "1900-01-01"),
        (datetime(2024, 5, 17, 14, 30), "d. mmmm yyyy h:mm", "2024-05-17 14:30"),
        (date(2024, 5, 17), '[$-411]yyyy"年"m"月"d"日"', "2024-05-17"),
        (time(9, 5, 7), "h:mm:ss", "09:05:07"),
        (timedelta(hours=36, minutes=5), "[h]:mm", "36:05:00"),
        ("=1+1", "General", ""),
        ("007", "@", "007"),
    ],
)
def test_values_are_written_plainly(value, number_format, text):
    workbook = openpyxl.Workbook()
    cell = workbook.active["A1"]
    cell.value, cell.number_format = value, number_format

    assert parsed(saved(workbook)).text == (f"## Sheet\n\n{text}" if text else "")


def test_a_count_of_days_from_1904_is_read_as_such():
    workbook = openpyxl.Workbook()
    workbook.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    workbook.active["A1"] = date(2024, 5, 17)

    assert parsed(saved(workbook)).text == "## Sheet\n\n2024-05-17"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ('<row r="5"><c r="B5"><v>1</v></c><c r="XFD5"><v>2</v></c></row>', "1 | 2"),
        ('<row r="1048576"><c r="A1048576" t="str"><f>x</f><v>last</v></c></row>', "last"),
        ("<row><c><v>1</v></c><c><v>2</v></c></row><row><c><v>3</v></c></row>", "1 | 2\n3"),
        ('<row><c t="inlineStr"><is><r><t>東</t></r><r><t>京</t></r><rPh><t>とう</t></rPh></is></c></row>', "東京"),
        (
            '<row><c t="s"><v>99</v></c><c t="e"><v>#REF!</v></c><c t="d"><v>2024-05-17</v></c></row>',
            "#REF! | 2024-05-17",
        ),
        ('<row r="1"><c r="A1" s="1"/></row><row r="2" ht="20"/>', ""),
    ],
)
def test_cells_stand_where_they_say_and_emptiness_costs_nothing(rows, text):
    assert parsed(bare(rows)).text == (f"## S\n\n{text}" if text else "")


def test_the_strict_dialect_is_read():
    strict = "http://purl.oclc.org/ooxml/spreadsheetml/main"

    assert parsed(bare("<row><c><v>1</v></c></row>", strict)).text == "## S\n\n1"


def test_a_hundred_thousand_rows_with_formats_only_are_no_text():
    rows = "".join(f'<row r="{place}"><c r="A{place}" s="1"/></row>' for place in range(1, 100_001))

    assert parsed(bare(rows + '<row r="100001"><c r="A100001"><v>1</v></c></row>')).text == "## S\n\n1"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (saved(openpyxl.Workbook())[:-500], "damaged or cut short"),
        (bare("<row><c>"), "is not XML"),
        (bare("<row><c><v>&b;</v></c></row>", before='<!DOCTYPE w [<!ENTITY a "1"><!ENTITY b "&a;&a;">]>'), "entities"),
    ],
)
def test_a_damaged_workbook_or_one_with_entities_is_a_parse_error(data, message):
    with pytest.raises(ParseError, match=message):
        parse_xlsx(data, "file.xlsx")
