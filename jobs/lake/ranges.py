"""Time ranges: half-open, in UTC, named 2024, 2024_q2, 2024_05, 2024_w07 or 2024_05_17.

A week belongs to the ISO year of its Thursday, so 2021-01-01 lies in 2020_w53.
"""

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

from ..settings import Granularity

if TYPE_CHECKING:
    from pyspark.sql import Column

NAME = re.compile(r"(?P<year>\d{4})(?:_q(?P<quarter>[1-4])|_w(?P<week>\d\d)|_(?P<month>\d\d)(?:_(?P<day>\d\d))?)?")
EPOCH = date(1970, 1, 1)
MS_PER_DAY = 86_400_000


def range_of(timestamp: "Column", granularity: Granularity) -> "Column":
    """The name of the range that each timestamp lies in; null for null. For years from 1000 to 9999.

    The session's time zone does not count.
    """
    # Imported here: readers of Milvus use range_bounds and start no Spark.
    from pyspark.sql import functions as F

    day = F.date_from_unix_date(F.floor(F.unix_seconds(timestamp) / 86_400).cast("int"))
    year = F.year(day)
    match granularity:
        case "year":
            name = F.format_string("%04d", year)
        case "quarter":
            name = F.format_string("%04d_q%d", year, F.quarter(day))
        case "month":
            name = F.format_string("%04d_%02d", year, F.month(day))
        case "week":
            thursday = F.date_add(day, F.lit(3) - F.weekday(day))
            name = F.format_string("%04d_w%02d", F.year(thursday), F.weekofyear(day))
        case "day":
            name = F.format_string("%04d_%02d_%02d", year, F.month(day), F.dayofmonth(day))
    return F.when(timestamp.isNotNull(), name)


def range_bounds(name: str) -> tuple[int, int]:
    """First millisecond of a range and the first after it, since 1970-01-01 UTC (negative before).

    Raises ValueError for a name that is none.
    """
    found = NAME.fullmatch(name)
    if not found:
        raise ValueError(f"{name!r} names no time range.")
    part = {key: int(value) for key, value in found.groupdict().items() if value}
    year = part["year"]
    if "quarter" in part:
        since, until = month_start(year, 3 * part["quarter"] - 2), month_start(year, 3 * part["quarter"] + 1)
    elif "week" in part:
        since = date.fromisocalendar(year, part["week"], 1)
        until = since + timedelta(days=7)
    elif "day" in part:
        since = date(year, part["month"], part["day"])
        until = since + timedelta(days=1)
    elif "month" in part:
        since, until = date(year, part["month"], 1), month_start(year, part["month"] + 1)
    else:
        since, until = date(year, 1, 1), date(year + 1, 1, 1)
    return (since - EPOCH).days * MS_PER_DAY, (until - EPOCH).days * MS_PER_DAY


def month_start(year: int, month: int) -> date:
    """The first day of a month; month 13 is the next year's January."""
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)
