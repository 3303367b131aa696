import pytest
from lakevec.jobs.tuning.estimate import Estimate
from lakevec.jobs.tuning.grid import Ground, grid

MEASURED = {"HNSW": 58, "IVF_FLAT": 14, "IVF_SQ8": 13, "IVF_PQ": 273}


def builds():
    given = {"HNSW": {"M": [16]}, "IVF_FLAT": {"nlist": [316]}, "IVF_SQ8": {"nlist": [316]}}
    given["IVF_PQ"] = {"nlist": [316], "m": [48]}
    return grid(given, Ground(384, 100_000, 100_000, (2, 3, 5))).builds


def test_the_first_estimate_is_near_what_was_measured_once():
    estimate = Estimate([100_000], 384)
    for build in builds():
        assert estimate.of(build) == pytest.approx(MEASURED[build.type], rel=0.3)


def test_a_build_corrects_the_next_of_its_type_and_of_types_not_seen_yet():
    estimate = Estimate([100_000], 384)
    hnsw, flat, *_ = builds()
    before, slower = estimate.of(flat), 3 * estimate.of(hnsw)
    # Of what it took, the part that its work took.
    factor = (slower - estimate.before) / estimate.seconds_of_work(hnsw)
    estimate.learn(hnsw, slower)
    assert estimate.of(hnsw) == pytest.approx(3 * Estimate([100_000], 384).of(hnsw))
    assert estimate.of(flat) - estimate.before == pytest.approx(factor * (before - estimate.before))


def test_what_a_build_takes_whatever_its_work_is_makes_no_other_dearer():
    """26 segments of 104,539 rows, on two cores: cheap builds take half a minute each, IVF_PQ with m 96 took 249 s."""
    lists = {"nlist": [264]}
    given = {"IVF_FLAT": lists, "IVF_SQ8": lists, "HNSW": {"M": [16]}, "IVF_PQ": {**lists, "m": [96]}}
    flat, scalar, hnsw, product = grid(given, Ground(384, 10_296, 103_539, (2, 3, 5))).builds
    estimate = Estimate([3_982] * 26, 384)
    for build, seconds in ((flat, 26.7), (scalar, 25.6), (hnsw, 28.2)):
        estimate.learn(build, seconds)

    assert 249 / 2.5 < estimate.of(product) < 249 * 2.5


def test_every_type_has_an_estimate_that_grows_with_the_rows():
    for build in grid({}, Ground(384, 100_000, 100_000, (2, 6, 0), True)).builds:
        assert Estimate([1_000_000], 384).of(build) > Estimate([10_000], 384).of(build) or build.type == "FLAT"
