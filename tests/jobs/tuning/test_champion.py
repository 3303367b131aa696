import pytest
from lakevec.jobs.lake.tables import TRUTH
from lakevec.jobs.settings import Index, load_settings
from lakevec.jobs.tuning.champion import index_settings
from lakevec.jobs.tuning.store import StoreError
from lakevec.jobs.vectors.index import VectorIndex
from lakevec.jobs.vectors.routes import Routes

APPLIED = VectorIndex("IVF_SQ8", {"nlist": 16}, {"nprobe": 3})
ROUTES = Routes("docs_2", "lake", "model", "name", APPLIED)


@pytest.mark.parametrize(
    ("given", "is_lost", "expected"),
    [
        ([], True, Index(type="IVF_SQ8", build={"nlist": 16}, search={"nprobe": 3})),
        # What is there is followed, whatever it is.
        ([], False, Index(type="HNSW")),
        (["index.type=FLAT"], True, Index(type="FLAT")),
    ],
)
def test_a_lost_collection_is_made_as_its_routes_say_unless_somebody_set_an_index(given, is_lost, expected):
    assert index_settings(load_settings("local", given, {}), None, ROUTES, is_lost) == expected


def test_a_lake_that_was_never_tuned_needs_no_registry(lakehouse):
    lake = lakehouse.lake()
    settings = load_settings("local", ["mlflow.tracking_uri=http://127.0.0.1:1"], {})
    assert index_settings(settings, lake, None, False) == settings.index

    lake.tables.create(TRUTH, {})
    with pytest.raises(StoreError, match="could not be read"):
        index_settings(settings, lake, None, False)
