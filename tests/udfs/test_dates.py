from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakevec.udfs.dates import document_date, parse_date
from lakevec.udfs.parse.document import Date

MODIFIED = datetime(2023, 3, 1, 12, tzinfo=UTC)
NOW = datetime(2024, 5, 17, 9, tzinfo=UTC)


def day(year: int, month: int = 1, date: int = 1) -> datetime:
    return datetime(year, month, date, tzinfo=UTC)


def test_the_documents_own_date_comes_before_its_names_and_its_files():
    own = Date(day(2020, 2, 3), "pdf")
    assert document_date([own], "2021-04-05.pdf", MODIFIED, NOW) == own


def test_without_a_date_of_its_own_the_file_name_says():
    assert document_date([], "2021-04-05 minutes.pdf", MODIFIED, NOW) == Date(day(2021, 4, 5), "file name")


def test_without_either_it_is_the_modification_time():
    assert document_date([], "minutes.pdf", MODIFIED, NOW) == Date(MODIFIED, "modification time")


@pytest.mark.parametrize("at", [day(999, 12, 31), day(1), NOW + timedelta(days=1, seconds=1), day(9999)])
def test_a_date_before_the_year_1000_or_after_tomorrow_falls_to_the_next_origin(at):
    assert document_date([Date(at, "pdf")], "a.pdf", MODIFIED, NOW) == Date(MODIFIED, "modification time")
    assert document_date([Date(at, "pdf"), Date(day(2001), "header")], "a", MODIFIED, NOW) == Date(day(2001), "header")


@pytest.mark.parametrize("at", [day(1000), day(1789, 4, 30), day(1969, 12, 31), NOW + timedelta(days=1)])
def test_dates_from_the_year_1000_until_tomorrow_hold(at):
    assert document_date([Date(at, "header")], "2020-01-01.txt", MODIFIED, NOW) == Date(at, "header")


def test_a_modification_time_in_the_future_gives_way_to_the_time_of_reading():
    assert document_date([], "a.txt", NOW + timedelta(days=30), NOW) == Date(NOW, "time of reading")


def test_a_naive_time_is_utc_and_another_zones_is_turned_into_it():
    naive = Date(datetime(2020, 1, 1, 12), "docx")
    assert document_date([naive], "a", MODIFIED, NOW).at == datetime(2020, 1, 1, 12, tzinfo=UTC)
    east = Date(datetime(2020, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "header")
    assert document_date([east], "a", MODIFIED, NOW).at == datetime(2019, 12, 31, 23, tzinfo=UTC)
    beyond = Date(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "header")
    assert document_date([beyond], "a", MODIFIED, NOW).at == MODIFIED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2024-05-17.json", day(2024, 5, 17)),
        ("notes 2024_05_17 final.docx", day(2024, 5, 17)),
        ("minutes-2024.5.7.md", day(2024, 5, 7)),
        ("20240517.pdf", day(2024, 5, 17)),
        ("IMG_20240517_123000.txt", day(2024, 5, 17)),
        ("scan20240517123000.pdf", day(2024, 5, 17)),
        ("17.05.2024 Protokoll.docx", day(2024, 5, 17)),
        ("2024_05.md", day(2024, 5)),
        ("review 2023-Q4.pptx", day(2023, 10)),
        ("1789-Washington.txt", day(1789)),
        ("1500 Cabral.txt", day(1500)),
        ("annual-report-2019.pdf", day(2019)),
        ("2019-2020 budget.xlsx", day(2019)),
    ],
)
def test_dates_in_file_names(name, expected):
    assert document_date([], name, MODIFIED, NOW) == Date(expected, "file name")


@pytest.mark.parametrize(
    "name",
    [
        *("pep-0008.rst", "12345678.txt", "invoice-99999999.pdf", "msg-1ac8340fd406.eml", "word2006ml.docx"),
        *("v2024.1.pdf", "1000.md", "1812.md", "1001-invoice.pdf", "1499-invoice.pdf"),
    ],
)
def test_numbers_in_file_names_that_are_no_dates(name):
    assert document_date([], name, MODIFIED, NOW).origin == "modification time"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-17", day(2024, 5, 17)),
        ("2024-05-17T10:00:00-04:00", datetime(2024, 5, 17, 14, tzinfo=UTC)),
        ("2014-04-02 12:00:00 -0400", datetime(2014, 4, 2, 16, tzinfo=UTC)),
        ("Fri, 17 May 2024 10:00:00 EST", datetime(2024, 5, 17, 15, tzinfo=UTC)),
        ("17 May 2024 10:00 CEST", datetime(2024, 5, 17, 8, tzinfo=UTC)),
        ("17 May 2024 10:00 XYZ", datetime(2024, 5, 17, 10, tzinfo=UTC)),
        ("01-Jan-2001", day(2001)),
        ("July 17, 2006", day(2006, 7, 17)),
        ("April 30, 1789", day(1789, 4, 30)),
        ("March 2024", day(2024, 3)),
        ("2024", day(2024)),
    ],
)
def test_dates_as_people_and_programs_write_them(text, expected):
    assert parse_date(text) == expected


@pytest.mark.parametrize("text", ["", "March", "17", "17 May", "12:30", "today", "soon", "2024-13-45", "5" * 200])
def test_nothing_is_taken_from_today_where_a_text_names_no_year(text):
    assert parse_date(text) is None


@given(st.text(max_size=40) | st.text("0123456789-/:. TZ+", max_size=40))
def test_no_text_at_all_makes_parse_date_fail(text):
    found = parse_date(text)
    assert found is None or found.tzinfo is UTC
