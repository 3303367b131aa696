import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.settings import IndexType
from lakevec.jobs.tuning.grid import Ground, Setting, grid
from lakevec.jobs.vectors.index import BUILD, SEARCH

GROUND = Ground(dimension=384, rows=100_000, total=100_000, server=(2, 6, 0), has_gpu=True)


def reasons(given, ground=GROUND):
    return [skipped.reason for skipped in grid(given, ground).skipped]


def test_builds_are_the_outer_loop_and_searches_the_inner_one():
    found = grid({"HNSW": {"M": [8, 16], "efConstruction": [100], "ef": [32, 64]}}, GROUND)

    assert [build.build["M"] for build in found.builds] == [8, 16]
    assert [setting.search["ef"] for setting in found.searches_of(found.builds[1])] == [32, 64]
    assert all(setting.build == found.builds[1].build for setting in found.searches_of(found.builds[1]))
    assert found.builds[0] == Setting("HNSW", {"M": 8, "efConstruction": 100})


def test_without_a_thought_every_type_is_tried_with_lists_that_fit_the_segment():
    found = grid({}, GROUND)

    assert {build.type for build in found.builds} == set(BUILD)
    assert not found.skipped
    assert {build.build["nlist"] for build in found.builds if "nlist" in build.build} == {1265}
    assert all(setting.search for build in found.builds for setting in found.searches_of(build) if SEARCH[build.type])
    small = grid({}, Ground(384, 1_400, 1_400, (2, 6, 0), True))
    assert {build.build["nlist"] for build in small.builds if "nlist" in build.build} == {35}
    assert not small.skipped


def test_above_ten_million_rows_product_quantisers_are_finer():
    found = grid({"IVF_PQ": {}}, Ground(384, 1_000_000, 20_000_000, (2, 6, 0), True))
    assert [build.build for build in found.builds] == [{"nlist": 4096, "m": m, "nbits": 8} for m in (48, 96, 192)]
    # As many lists as smaller segments can train.
    [smaller] = grid({"IVF_FLAT": {}}, Ground(384, 100_000, 20_000_000, (2, 6, 0), True)).builds
    assert smaller.build == {"nlist": 100_000 // 39}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"IVF_FLAT": {"nlist": [4096], "nprobe": [8]}}, "nlist 4,096 is more than 2,564"),
        ({"IVF_FLAT": {"nlist": [64], "nprobe": [128]}}, "nprobe 128 is more than nlist 64"),
        ({"IVF_PQ": {"m": [7]}}, "m 7 does not divide the 384 dimensions"),
        ({"HNSW": {"M": [16], "ef": [8]}}, "ef 8 is less than 11"),
    ],
)
def test_an_impossible_combination_is_left_out_with_its_reason(given, reason):
    found = grid(given, GROUND)
    assert reason in found.skipped[0].reason
    assert not found.builds


def test_too_few_rows_for_a_quantiser_and_an_odd_dimension_are_told():
    assert "only 2,000 rows" in reasons({"IVF_PQ": {"nbits": [11]}}, Ground(384, 2000, 2000, (2, 6, 0), True))[0]
    assert "even number" in reasons({"SCANN": {}}, Ground(7, 10_000, 10_000, (2, 6, 0), True))[0]


def test_a_value_that_is_given_twice_is_tried_once():
    found = grid({"IVF_SQ8": {"nlist": [16, 16], "nprobe": [4, 8, 4]}}, GROUND)
    assert [each.build for each in found.builds] == [{"nlist": 16}]
    assert [each.search for each in found.searches_of(found.builds[0])] == [{"nprobe": 4}, {"nprobe": 8}]


def test_where_no_segment_is_large_enough_for_an_index_only_the_exact_search_is_tried():
    found = grid({"FLAT": {}, "HNSW": {}}, Ground(384, 1023, 5000, (2, 6, 0), True))
    assert found.builds == [Setting("FLAT")]
    assert ["fewer than 1,024 rows" in each.reason for each in found.skipped] == [True]


def test_what_the_server_lacks_is_told_by_version_or_in_its_own_words():
    ground = Ground(384, 100_000, 100_000, (2, 3, 5), False, {"DISKANN": "not supported"})
    told = {skipped.index_type: skipped.reason for skipped in grid({}, ground).skipped}
    assert told == {
        "DISKANN": "the server (v2.3.5) refuses it: not supported",
        "GPU_IVF_FLAT": "the server (v2.3.5) is built without GPUs: its version does not end in -gpu",
        "GPU_IVF_PQ": "the server (v2.3.5) is built without GPUs: its version does not end in -gpu",
        "GPU_CAGRA": "the server is v2.3.5; GPU_CAGRA comes with v2.4",
        "HNSW_SQ": "the server is v2.3.5; HNSW_SQ comes with v2.5",
        "IVF_RABITQ": "the server is v2.3.5; IVF_RABITQ comes with v2.6",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"HSNW": {}}, "no index type HSNW"),
        ({"HNSW": {"nlist": [1]}}, r"tune\.grid\.HNSW\.nlist: HNSW has no such parameter"),
        ({"HNSW": {"M": [1]}}, r"tune\.grid\.HNSW\.M has 1; HNSW takes 2 to 2,048"),
        ({"HNSW": {"ef": []}}, r"tune\.grid\.HNSW\.ef has no values"),
    ],
)
def test_a_grid_that_names_what_there_is_not_is_refused(given, message):
    with pytest.raises(ConfigurationError, match=message):
        grid(given, GROUND)


def test_every_type_of_the_settings_can_be_built_and_searched():
    assert set(IndexType.__args__) == set(BUILD) == set(SEARCH)
