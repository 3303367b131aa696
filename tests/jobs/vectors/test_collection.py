import time
import uuid
from dataclasses import replace

import numpy as np
import pytest
from lakevec.jobs.errors import ConfigurationError, MilvusError
from lakevec.jobs.settings import Index
from lakevec.jobs.vectors.collection import Owner, aliased, create_index, open_collection, present_index, schema
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.index import VectorIndex, vector_index
from lakevec.jobs.vectors.rows import COLUMNS, TEXT_BYTES

OWNER = Owner("lake0001", "tiny@1", "heading-256-32", 8)
FLAT = Index(type="FLAT")


@pytest.fixture
def client(milvus):
    return connect(milvus)


@pytest.fixture
def name():
    return f"collection_{uuid.uuid4().hex[:8]}"


def test_a_collection_is_made_once_and_found_again(client, name):
    first = open_collection(client, name, OWNER, FLAT, {"index.type"}, 10)
    assert first == (OWNER.collection_name(name), VectorIndex("FLAT"))
    assert open_collection(client, name, OWNER, FLAT, {"index.type"}, 10) == first
    assert aliased(client, name) == first[0]


def test_a_collection_that_a_crash_left_without_index_and_alias_is_completed(client, name):
    physical = OWNER.collection_name(name)
    client.create_collection(physical, schema=schema(8), properties=OWNER.properties)
    assert open_collection(client, name, OWNER, FLAT, {"index.type"}, 10) == (physical, VectorIndex("FLAT"))
    assert aliased(client, name) == physical


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"lake_id": "lake0002"}, "another lake"),
        ({"model_id": "other@2"}, "another model"),
        ({"chunking": "fixed-256-0"}, "another chunking"),
    ],
)
def test_what_belongs_to_others_is_refused(client, name, other, what):
    open_collection(client, name, OWNER, FLAT, {"index.type"}, 10)
    with pytest.raises(MilvusError, match=f"{name} in Milvus belongs to {what}.*Give another milvus.collection"):
        open_collection(client, name, replace(OWNER, **other), FLAT, set(), 10)


def test_a_plain_collection_of_that_name_is_refused(client, name):
    client.create_collection(name, schema=schema(8))
    with pytest.raises(MilvusError, match="that lakevec did not make"):
        open_collection(client, name, OWNER, FLAT, set(), 10)


def test_an_index_that_is_there_is_followed_unless_another_is_asked_for(client, name):
    collection, _ = open_collection(client, name, OWNER, FLAT, {"index.type"}, 10)
    hnsw = Index(type="HNSW")
    assert open_collection(client, name, OWNER, hnsw, set(), 10) == (collection, VectorIndex("FLAT"))
    with pytest.raises(ConfigurationError, match=f"index.type is HNSW, but the collection {name} was made with FLAT"):
        open_collection(client, name, OWNER, hnsw, {"index.type"}, 10)


def test_search_parameters_may_change_and_build_parameters_may_not(client, name):
    built = Index(type="HNSW", build={"M": 8})
    collection, index = open_collection(client, name, OWNER, built, set(), 10)
    assert index == VectorIndex("HNSW", {"M": 8, "efConstruction": 200}, {"ef": 64})
    wider = Index(type="HNSW", search={"ef": 99})
    assert open_collection(client, name, OWNER, wider, set(), 10) == (collection, replace(index, search={"ef": 99}))
    with pytest.raises(ConfigurationError, match=r"index\.build\.M is 9.*was made with 8"):
        open_collection(client, name, OWNER, Index(type="HNSW", build={"M": 9}), set(), 10)


@pytest.mark.parametrize("kind", ["FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN"])
def test_every_index_type_is_made_by_the_server_as_it_was_asked_for(client, name, kind):
    client.create_collection(name, schema=schema(8))
    wanted = vector_index(Index(type=kind), 8, 1000)
    create_index(client, name, wanted)
    assert present_index(client, name) == VectorIndex(kind, wanted.build)
    client.drop_collection(name)


@pytest.mark.parametrize("flag", [0, 1])
def test_an_index_with_a_flag_is_built_too(client, name, flag):
    """The server takes the order whatever the flag's words are, and fails at the build, again and again."""
    client.create_collection(name, schema=schema(8))
    wanted = VectorIndex("SCANN", {"nlist": 16, "with_raw_data": flag})
    create_index(client, name, wanted)
    assert present_index(client, name) == wanted
    vectors = np.random.default_rng(0).standard_normal((2000, 8)).astype("float32").tolist()
    blank = {field: "" if field in TEXT_BYTES else 0 for field in COLUMNS}
    client.insert(name, [{**blank, "chunk_id": str(row), "vector": vector} for row, vector in enumerate(vectors)])
    client.flush(name)
    until = time.monotonic() + 60
    while client.describe_index(name, "vector")["state"] != "Finished":
        assert time.monotonic() < until
        time.sleep(0.2)
    client.drop_collection(name)


def test_lite_keeps_owner_and_index_too(tmp_path):
    client = connect(MilvusAddress(str(tmp_path / "lite.db")))
    first = open_collection(client, "lite", OWNER, FLAT, {"index.type"}, 10)
    assert open_collection(client, "lite", OWNER, FLAT, {"index.type"}, 10) == first
    with pytest.raises(MilvusError, match="another lake"):
        open_collection(client, "lite", replace(OWNER, lake_id="lake0002"), FLAT, set(), 10)
