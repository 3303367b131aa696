"""When a document is from: by its own word, by its file's name, or by its file's modification time."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath

from dateutil import parser, tz

from .parse.document import Date

EARLIEST = datetime(1000, 1, 1, tzinfo=UTC)
LONGEST_DATE = 100

# The zones that RFC 822 names, and the most frequent others.
HOURS = {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
HOURS |= {"BST": 1, "CET": 1, "CEST": 2, "JST": 9}

# Two days that share no field: what both readings agree on was in the text.
DEFAULTS = (datetime(2000, 1, 1), datetime(2001, 2, 2))

# Dates in file names, the exact ones first.
IN_NAMES = [
    # 2024-05-17, 2024_05_17, 2024.05.17
    re.compile(r"(?<!\d)(?P<year>[12]\d{3})(?P<mark>[-_. ])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})(?!\d)"),
    # 20240517, 20240517123000
    re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<month>\d\d)(?P<day>\d\d)(?:\d{4}|\d{6})?(?!\d)"),
    # 17.05.2024
    re.compile(r"(?<!\d)(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>[12]\d{3})(?!\d)"),
    # 2024-Q2, 2024Q2
    re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)[-_. ]?[Qq](?P<quarter>[1-4])(?![0-9A-Za-z])"),
    # 2024-05, 2024_05
    re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)[-_.](?P<month>\d\d)(?![0-9A-Za-z])"),
    # 1789-Washington, from 1500 on; not 1812, which may as well be the 1,812th file, nor 1001-invoice
    re.compile(r"^(?P<year>1[5-9]\d\d|20\d\d)(?=[^0-9A-Za-z])"),
    # annual-report-2019
    re.compile(r"(?<![0-9A-Za-z.])(?P<year>(?:19|20)\d\d)$"),
]


def document_date(dates: Iterable[Date], name: str, modified_at: datetime, now: datetime) -> Date:
    """The first believable date of the document's own, its file name's and its file's modification time.

    Not believable is what lies before the year 1000 or after tomorrow. A naive time is UTC.
    """
    candidates = [*dates, *dates_in_name(name), Date(modified_at, "modification time")]
    for candidate in candidates:
        at = in_utc(candidate.at)
        if at and EARLIEST <= at <= now + timedelta(days=1):
            return Date(at, candidate.origin)
    return Date(now, "time of reading")


def dates_in_name(name: str) -> Iterator[Date]:
    """Dates that a file's name holds, the most exact first; where it names no day, the range's first."""
    stem = PurePosixPath(name).stem
    for pattern in IN_NAMES:
        for found in pattern.finditer(stem):
            fields = found.groupdict()
            month = int(fields.get("month") or 3 * int(fields.get("quarter") or 1) - 2)
            try:
                yield Date(datetime(int(fields["year"]), month, int(fields.get("day") or 1), tzinfo=UTC), "file name")
            except ValueError:
                # No such day: the number is something else.
                continue


def parse_date(text: str) -> datetime | None:
    """The moment that a text names, in UTC; None where it names none or no year.

    A missing month or day is the first. Nothing is taken from today: "March" alone is no date.
    """
    text = text.strip()
    if not text or len(text) > LONGEST_DATE:
        return None
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError:
        pass
    try:
        first, second = (parser.parse(text, default=default, tzinfos=zone) for default in DEFAULTS)
    except (ValueError, ArithmeticError, TypeError, AttributeError):
        # dateutil says by many exceptions that it cannot read something.
        return None
    return in_utc(first) if first.year == second.year else None


def zone(name: str | None, offset: int | None) -> tz.tzoffset | None:
    """The zone of a time, by its own offset in seconds, else its name; the machine's own zone has no say."""
    if offset is None and name in HOURS:
        offset = HOURS[name] * 3600
    return None if offset is None else tz.tzoffset(name, offset)


def in_utc(at: datetime | date) -> datetime | None:
    """The same moment in UTC; a naive one is in UTC. None beyond the calendar's ends."""
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day)
    if at.tzinfo is None:
        return at.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC)
    except (OverflowError, ValueError):
        return None
