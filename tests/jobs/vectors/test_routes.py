import uuid
from dataclasses import replace

import pytest
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.index import VectorIndex
from lakevec.jobs.vectors.partitions import Generation
from lakevec.jobs.vectors.routes import Routes, publish, published, read_routes

ROUTES = Routes(
    "collection",
    "lake0001",
    "tiny@1",
    "tiny",
    VectorIndex("HNSW", {"M": 16}, {"ef": 64}),
    7,
    generations={"2024": 2, "1965": 1},
)


@pytest.fixture(params=["server", "lite"])
def client(request, tmp_path):
    if request.param == "lite":
        return connect(MilvusAddress(str(tmp_path / "lite.db")))
    return connect(request.getfixturevalue("milvus"))


@pytest.fixture
def name():
    return f"routes_{uuid.uuid4().hex[:8]}"


def test_what_is_published_is_read_whole(client, name):
    assert read_routes(client, name) is None
    publish(client, name, ROUTES)
    assert read_routes(client, name) == ROUTES
    assert ROUTES.live == [Generation("1965", 1), Generation("2024", 2)]
    assert ROUTES.partition("2024") == "p2024_g2"


def test_the_newest_routes_hold_and_only_the_one_before_is_kept(client, name):
    for version in range(1, 5):
        publish(client, name, replace(ROUTES, version=version))
        assert read_routes(client, name).version == version
    assert published(client, name) == [3, 4]


def test_routes_of_a_publication_that_a_crash_cut_off_do_not_count(client, name):
    publish(client, name, ROUTES)
    other = f"other_{uuid.uuid4().hex[:8]}"
    publish(client, other, replace(ROUTES, version=99))
    # Made, but the alias was not moved any more.
    client.drop_alias(f"{other}_routes")
    assert read_routes(client, other) is None
    publish(client, other, replace(ROUTES, version=8))
    assert (read_routes(client, other).version, published(client, other)) == (8, [1, 2])
    assert read_routes(client, name) == ROUTES


def test_the_routes_of_four_thousand_ranges_are_read_whole(client, name):
    many = replace(ROUTES, generations={f"2024_05_{n}": n for n in range(4_000)})
    publish(client, name, many)
    assert read_routes(client, name) == many
