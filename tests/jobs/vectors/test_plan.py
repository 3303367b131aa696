import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.settings import Load
from lakevec.jobs.vectors.plan import RangeAction, check_limit, decide, partition_limit, reconcile_ranges, waves

SETTINGS = Load(build_rows=100, build_share=0.5)


@pytest.mark.parametrize(
    ("changed", "rows", "way"),
    [(100, 100, "patch"), (101, 1000, "patch"), (500, 1000, "patch"), (501, 1000, "build"), (101, 101, "build")],
)
def test_a_range_is_built_where_much_changed_in_number_and_in_share(changed, rows, way):
    assert decide(changed, rows, SETTINGS) == way


def test_ranges_that_are_equal_need_nothing():
    assert reconcile_ranges({"2023": 5}, {"2023": 5}, {}, SETTINGS) == []


def test_only_what_changed_is_written_to_a_range_that_is_there():
    assert reconcile_ranges({"2023": 5, "2024": 7}, {"2023": 4, "2024": 7}, {"2023": 1}, SETTINGS) == [
        RangeAction("2023", "patch")
    ]


def test_a_new_range_is_written_whole():
    assert reconcile_ranges({"2023": 5, "2024": 500}, {}, {"2023": 5, "2024": 500}, SETTINGS) == [
        RangeAction("2023", "patch", whole=True),
        RangeAction("2024", "build", whole=True),
    ]


def test_a_range_without_rows_is_dropped():
    assert reconcile_ranges({}, {"2023": 5, "2024": 0}, {"2023": 5}, SETTINGS) == [
        RangeAction("2023", "drop"),
        RangeAction("2024", "drop"),
    ]


def test_rows_that_milvus_lost_are_written_again():
    assert reconcile_ranges({"2023": 5, "2024": 200}, {"2023": 4, "2024": 0}, {}, SETTINGS) == [
        RangeAction("2023", "patch", whole=True),
        RangeAction("2024", "build", whole=True),
    ]


def test_where_it_is_not_known_what_changed_every_range_is_written_whole():
    assert reconcile_ranges({"2023": 5}, {"2023": 5}, None, SETTINGS) == [RangeAction("2023", "patch", whole=True)]


def test_a_range_that_shall_be_anew_is_built_or_patched_whole_where_nothing_can_be_built():
    equal = {"2023": 5, "2024": 7}
    assert reconcile_ranges(equal, equal, {}, SETTINGS, ["2024"]) == [RangeAction("2024", "build", whole=True)]
    assert reconcile_ranges(equal, equal, {}, None, ["2024"]) == [RangeAction("2024", "patch", whole=True)]
    assert reconcile_ranges({"2023": 500}, {}, {}, None) == [RangeAction("2023", "patch", whole=True)]


def test_ranges_are_built_in_waves_that_rows_and_free_partitions_bound():
    rows_of = {"2020": 10, "2021": 10, "2022": 10, "2023": 25}
    assert waves({}, [], 1, 20) == []
    assert waves(rows_of, rows_of, 100, 1000) == [["2020", "2021", "2022", "2023"]]
    assert waves(rows_of, rows_of, 100, 20) == [["2020", "2021"], ["2022"], ["2023"]]
    assert waves(rows_of, rows_of, 2, 1000) == [["2020", "2021"], ["2022", "2023"]]
    # What is new takes a partition for good, and comes first.
    assert waves(rows_of, ["2020", "2021"], 3, 1000) == [["2022", "2023", "2020"], ["2021"]]


def test_more_ranges_than_the_server_holds_are_refused_by_name():
    years = [f"{year:04}" for year in range(1, 4096)]
    check_limit(years[:1022], partition_limit((2, 4, 0)), "day")
    with pytest.raises(ConfigurationError) as refused:
        check_limit(years[:1023], partition_limit((2, 4, 0)), "day")
    for word in ("1,023 time ranges by day, from 0001 to 1023", "limit is 1,024", "= week", "milvus.max_partitions"):
        assert word in str(refused.value)
    check_limit(years[:4094], partition_limit((2, 3, 5)), "year")
    with pytest.raises(ConfigurationError, match="4,095 time ranges by year"):
        check_limit(years, partition_limit((2, 3, 5)), "year")
