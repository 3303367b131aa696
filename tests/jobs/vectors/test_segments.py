from pathlib import Path
from types import SimpleNamespace

import pytest
from lakevec.jobs.vectors.index import VectorIndex
from lakevec.jobs.vectors.segments import Segment, fault, loaded_segments
from lakevec.jobs.vectors.weight import Scales, Weight, computed_bytes, newest_bytes

INDEXED, SMALL, BARE = Segment(6000, True), Segment(500, False), Segment(6000, False)


def test_a_search_measures_the_index_only_where_every_segment_that_can_have_one_has_it():
    assert fault([INDEXED, SMALL], 6500, "HNSW") is None
    assert "1 segments with 6,000 rows do not carry the index" in fault([INDEXED, BARE], 12_000, "HNSW")
    assert "no segment has an index" in fault([SMALL], 500, "HNSW")
    assert "segments have 6,000 rows, the table has 6,500" in fault([INDEXED], 6500, "HNSW")
    assert fault([BARE, SMALL], 6500, "FLAT") is None


def test_a_segment_that_carries_the_index_before_it_is_not_indexed():
    carrying = [
        SimpleNamespace(num_rows=rows, index_name=name) for rows, name in ((6000, "new"), (7000, "old"), (0, ""))
    ]
    client = SimpleNamespace(list_loaded_segments=lambda _: carrying)
    assert loaded_segments(client, "t", "new") == [Segment(6000, True), Segment(7000, False)]


def test_rows_that_are_deleted_may_stay_in_the_segments_of_a_live_collection_but_none_may_be_missing():
    assert "segments have 6,500 rows" in fault([INDEXED, SMALL], 6400, "HNSW")
    assert fault([INDEXED, SMALL], 6400, "HNSW", with_deleted=True) is None
    assert "the table has 6,600" in fault([INDEXED, SMALL], 6600, "HNSW", with_deleted=True)


# Bytes of index files of 6,000 vectors of 384 numbers, as a Milvus 2.3.5 wrote them (compressed).
@pytest.mark.parametrize(
    ("kind", "build", "written"),
    [
        ("IVF_FLAT", {"nlist": 64}, 8_661_361),
        ("IVF_SQ8", {"nlist": 64}, 2_224_418),
        ("IVF_PQ", {"nlist": 64, "m": 48, "nbits": 8}, 754_519),
        ("HNSW", {"M": 16, "efConstruction": 200}, 9_869_155),
        ("SCANN", {"nlist": 64}, 9_290_204),
    ],
)
def test_what_is_computed_is_about_what_a_server_writes(kind, build, written):
    assert computed_bytes(kind, build, 6000, 384) == pytest.approx(written, rel=0.15)


def test_of_a_segment_s_index_files_the_newest_build_counts(tmp_path):
    for build, segment, size in (("9", "a", 100), ("10", "a", 30), ("10", "b", 5), ("11", "other", 7)):
        folder = tmp_path / build / "1" / "77" / segment
        folder.mkdir(parents=True)
        (folder / "IVF_0").write_bytes(b"." * size)
    assert newest_bytes(tmp_path, {"a", "b"}) == 35


def test_the_exact_search_does_not_weigh_what_the_index_before_it_did(monkeypatch):
    monkeypatch.setattr(Scales, "files_bytes", lambda _: 77)
    scales = Scales(None, "t", 384, Path("/files"))
    assert scales.weigh(VectorIndex("HNSW", {"M": 16}), [INDEXED]).index_bytes == 77
    assert scales.weigh(VectorIndex("FLAT"), [INDEXED]).index_bytes == 6000 * 384 * 4


def test_a_weight_is_scaled_to_the_rows_that_there_will_be_and_says_so():
    assert Weight(900, 1800, "computed").scaled(9000, 10_000) == Weight(
        1000, 2000, "computed; scaled from 9,000 rows to 10,000"
    )


def test_small_segments_weigh_what_their_vectors_do():
    vectors = 500 * 384 * 4
    found = Scales(None, "t", 384, None).weigh(VectorIndex("IVF_SQ8", {"nlist": 64}), [INDEXED, SMALL])
    assert found.memory_bytes == found.index_bytes + vectors
    flat = Scales(None, "t", 384, None).weigh(VectorIndex("FLAT"), [INDEXED, SMALL])
    assert flat == Weight(6500 * 384 * 4, 6500 * 384 * 4, flat.way)
