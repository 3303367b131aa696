import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.settings import Index
from lakevec.jobs.vectors.index import VectorIndex, vector_index, widened


@pytest.mark.parametrize(
    ("kind", "index"),
    [
        ("FLAT", VectorIndex("FLAT")),
        ("HNSW", VectorIndex("HNSW", {"M": 16, "efConstruction": 200}, {"ef": 64})),
        ("IVF_FLAT", VectorIndex("IVF_FLAT", {"nlist": 400}, {"nprobe": 20})),
        ("IVF_SQ8", VectorIndex("IVF_SQ8", {"nlist": 400}, {"nprobe": 20})),
        ("IVF_PQ", VectorIndex("IVF_PQ", {"nlist": 400, "m": 48, "nbits": 8}, {"nprobe": 20})),
        ("SCANN", VectorIndex("SCANN", {"nlist": 400}, {"nprobe": 20})),
    ],
)
def test_what_nobody_sets_follows_from_type_rows_and_dimension(kind, index):
    assert vector_index(Index(type=kind), 384, 10_000) == index


def test_what_is_set_is_taken():
    settings = Index(type="HNSW", build={"M": 32}, search={"ef": 200})
    assert vector_index(settings, 384, 10) == VectorIndex("HNSW", {"M": 32, "efConstruction": 200}, {"ef": 200})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Index(type="HNSW", build={"nlist": 8}), r"index\.build\.nlist: .*HNSW.*It takes M, efConstruction"),
        (Index(type="FLAT", search={"ef": 8}), r"index\.search\.ef: .*FLAT.*It takes none"),
        (Index(type="HNSW", build={"M": 1}), r"index\.build\.M is 1; HNSW takes 2 to 2,048"),
        (Index(type="IVF_PQ", build={"m": 5}), "cuts a vector into m equal parts"),
        (Index(type="IVF_FLAT", build={"nlist": 8}, search={"nprobe": 9}), "only index.build.nlist = 8 lists"),
    ],
)
def test_what_the_type_cannot_take_is_refused_by_name(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        vector_index(settings, 384, 10)


def test_scann_is_refused_for_an_odd_dimension():
    with pytest.raises(ConfigurationError, match="even number of dimensions"):
        vector_index(Index(type="SCANN"), 7, 10)


def test_a_search_for_many_hits_widens_what_limits_them():
    assert widened({"ef": 64}, 100) == {"ef": 100}
    assert widened({"nprobe": 8}, 100) == {"nprobe": 8}
