from datetime import UTC, datetime, timedelta

import pytest
from lakevec.jobs.lake.ranges import range_bounds, range_of
from pyspark.sql import functions as F

MOMENTS = [
    datetime(1000, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2020, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2021, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    datetime(2024, 12, 30, tzinfo=UTC),
]
NAMES = {
    "year": ["1000", "1969", "1970", "2020", "2021", "2024", "2024"],
    "quarter": ["1000_q1", "1969_q4", "1970_q1", "2020_q4", "2021_q1", "2024_q1", "2024_q4"],
    "month": ["1000_01", "1969_12", "1970_01", "2020_12", "2021_01", "2024_02", "2024_12"],
    "week": ["1000_w01", "1970_w01", "1970_w01", "2020_w53", "2020_w53", "2024_w09", "2025_w01"],
    "day": ["1000_01_01", "1969_12_31", "1970_01_01", "2020_12_31", "2021_01_01", "2024_02_29", "2024_12_30"],
}


def milliseconds(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def names_by_spark(spark):
    rows = spark.createDataFrame(
        [(number, milliseconds(moment)) for number, moment in enumerate(MOMENTS)], "n int, ms long"
    ).withColumn("at", F.timestamp_millis("ms"))
    named = rows.select("n", *[range_of(F.col("at"), granularity).alias(granularity) for granularity in NAMES])
    found = named.orderBy("n").collect()
    return {granularity: [row[granularity] for row in found] for granularity in NAMES}


@pytest.mark.parametrize("granularity", NAMES)
def test_a_moment_lies_in_the_range_of_its_utc_day(names_by_spark, granularity):
    assert names_by_spark[granularity] == NAMES[granularity]


@pytest.mark.parametrize("granularity", NAMES)
def test_the_bounds_of_a_range_hold_its_moments_and_not_its_end(granularity):
    for name, moment in zip(NAMES[granularity], MOMENTS, strict=True):
        since, until = range_bounds(name)
        assert since <= milliseconds(moment) < until


def test_ranges_follow_each_other_without_a_gap():
    assert range_bounds("2024_q4")[1] == range_bounds("2025_q1")[0] == range_bounds("2025")[0]
    assert range_bounds("2024_12")[1] == range_bounds("2025_01")[0]
    assert range_bounds("2020_w53")[1] == range_bounds("2021_w01")[0]
    assert range_bounds("1969_12_31") == (-86_400_000, 0)


@pytest.mark.parametrize("name", ["", "24", "2024_13", "2024_q5", "2024_02_30", "2024_w60", "p2024"])
def test_a_name_that_is_no_range_is_refused(name):
    with pytest.raises(ValueError, match=r"range|month|week|day"):
        range_bounds(name)
