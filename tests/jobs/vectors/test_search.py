import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from lakevec.jobs.errors import ConfigurationError, MilvusError
from lakevec.jobs.settings import Index
from lakevec.jobs.vectors import partitions
from lakevec.jobs.vectors.collection import Owner, create_index, open_collection, schema
from lakevec.jobs.vectors.connection import connect
from lakevec.jobs.vectors.index import VectorIndex
from lakevec.jobs.vectors.partitions import Generation
from lakevec.jobs.vectors.patch import upsert
from lakevec.jobs.vectors.routes import KNOWN_SECONDS, Routes, publish, read_routes, routes_alias, routes_behind
from lakevec.jobs.vectors.rows import SCHEMA
from lakevec.jobs.vectors.search import KNOWN, Hit, milliseconds, partition_counts, ranges_within, search, time_filter

DIMENSION = 16
OWNER = Owner("lake0001", "tiny@1", "heading-256-32", DIMENSION)
YEARS = (1965, 2023, 2024)
# Two hundred passages a year, a day and a half apart.
MOMENTS = [datetime(year, 1, 1, tzinfo=UTC) + n * timedelta(days=1.5) for year in YEARS for n in range(200)]


def unit_vectors(number, seed):
    vectors = np.random.default_rng(seed).normal(size=(number, DIMENSION)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit_vectors(len(MOMENTS), seed=1)


@pytest.fixture(scope="module")
def name():
    return f"search_{uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def no_known_routes():
    KNOWN.clear()


@pytest.fixture(scope="module")
def client(milvus, name):
    client = connect(milvus)
    collection, index = open_collection(client, name, OWNER, Index(type="FLAT"), {"index.type"}, 200)
    generations = [Generation(str(year), 1) for year in YEARS]
    partitions.create(client, collection, generations)
    partitions.load(client, collection, generations)
    rows = pa.RecordBatch.from_pylist(
        [
            {
                "chunk_id": f"k{number}",
                "doc_id": "d",
                "doc_timestamp": milliseconds(moment),
                "uri": "minutes.pdf",
                "title": "Minutes",
                "heading_path": "Budget > Travel",
                "text": f"passage {number}",
                "page": number % 3,
                "start": number,
                "end": number + 9,
                "vector": vector,
            }
            for number, (moment, vector) in enumerate(zip(MOMENTS, VECTORS, strict=True))
        ],
        SCHEMA,
    )
    names = pa.array([str(moment.year) for moment in MOMENTS])
    upsert(
        client,
        collection,
        rows.append_column("partition", names),
        {g.range: g.partition for g in generations},
        DIMENSION,
    )
    partitions.wait_for_rows(client, collection, dict.fromkeys(generations, 200), 60)
    publish(
        client,
        name,
        Routes(
            collection,
            OWNER.lake_id,
            OWNER.model_id,
            "tiny",
            index,
            3,
            generations={g.range: g.generation for g in generations},
        ),
    )
    return client


def keys(result):
    return [hit.chunk_id for hit in result.hits]


def nearest(query, k, since=None, until=None):
    """The same by brute force."""
    within = [
        number
        for number, moment in enumerate(MOMENTS)
        if (since is None or since <= moment) and (until is None or moment < until)
    ]
    best = sorted(within, key=lambda number: -float(VECTORS[number] @ query))[:k]
    return [f"k{number}" for number in best]


def test_a_flat_index_gives_what_brute_force_gives(client, name):
    for query in unit_vectors(20, seed=2):
        assert keys(search(client, name, query, 10, consistency="Bounded")) == nearest(query, 10)


def test_a_hit_says_where_it_comes_from(client, name):
    result = search(client, name, VECTORS[1], 1)
    assert result.hits == [
        Hit(
            score=pytest.approx(1.0, abs=1e-5),
            text="passage 1",
            uri="minutes.pdf",
            title="Minutes",
            heading_path="Budget > Travel",
            page=1,
            start=1,
            end=10,
            doc_timestamp=datetime(1965, 1, 2, 12, tzinfo=UTC),
            doc_id="d",
            chunk_id="k1",
        )
    ]
    assert result.partitions_searched == ["1965", "2023", "2024"]
    assert search(client, name, VECTORS[3], 1).hits[0].page is None


@pytest.mark.parametrize(
    ("since", "until", "searched"),
    [
        (datetime(2024, 1, 1, tzinfo=UTC), None, ["2024"]),
        (None, datetime(2024, 1, 1, tzinfo=UTC), ["1965", "2023"]),
        (None, datetime(1965, 3, 1, tzinfo=UTC), ["1965"]),
        (datetime(1965, 1, 2, 12, tzinfo=UTC), datetime(1965, 1, 4, tzinfo=UTC), ["1965"]),
        (datetime(2023, 7, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), ["2023", "2024"]),
        (datetime(2000, 1, 1, tzinfo=UTC), datetime(2001, 1, 1, tzinfo=UTC), []),
    ],
)
def test_a_time_range_is_half_open_and_searches_only_what_it_meets(client, name, since, until, searched):
    query = unit_vectors(1, seed=3)[0]
    result = search(client, name, query, 10, since, until)
    assert keys(result) == nearest(query, 10, since, until)
    assert result.partitions_searched == searched


def test_ranges_are_counted(client, name):
    assert partition_counts(client, name) == {"1965": 200, "2023": 200, "2024": 200}


def test_routes_are_read_anew_after_a_moment_and_by_each_client(client, milvus, name, monkeypatch):
    now = 0.0
    monkeypatch.setattr("lakevec.jobs.vectors.search.time", SimpleNamespace(monotonic=lambda: now))
    read = []
    for each in (read_routes, routes_behind):
        told = partial(lambda how, *asked: read.append(how) or how(*asked), each)
        monkeypatch.setattr(f"lakevec.jobs.vectors.search.{each.__name__}", told)
    for moment, expected in ((0.0, 1), (0.1, 1), (KNOWN_SECONDS, 1), (KNOWN_SECONDS + 0.1, 2)):
        now = moment
        assert keys(search(client, name, VECTORS[0], 1)) == ["k0"]
        assert len(read) == expected
    assert keys(search(connect(milvus), name, VECTORS[0], 1)) == ["k0"]
    assert read == [read_routes, routes_behind, read_routes]


def test_one_thread_reads_the_routes_anew_and_others_go_on_by_those_they_know(client, name, monkeypatch):
    now, reading, go_on = 0.0, threading.Event(), threading.Event()
    monkeypatch.setattr("lakevec.jobs.vectors.search.time", SimpleNamespace(monotonic=lambda: now))
    search(client, name, VECTORS[0], 1)
    now = KNOWN_SECONDS + 1

    def slowly(*asked):
        reading.set()
        assert go_on.wait(30)
        return routes_behind(*asked)

    monkeypatch.setattr("lakevec.jobs.vectors.search.routes_behind", slowly)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(search, client, name, VECTORS[0], 1)
        assert reading.wait(30)
        assert keys(search(client, name, VECTORS[1], 1)) == ["k1"]
        assert not first.done()
        go_on.set()
        assert keys(first.result(30)) == ["k0"]


def test_a_search_that_meets_a_switch_reads_the_routes_once_more(client, name, monkeypatch):
    routes = read_routes(client, name)
    outdated = replace(routes, generations={**routes.generations, "2024": 7})
    answers = iter([outdated, routes])
    monkeypatch.setattr("lakevec.jobs.vectors.search.read_routes", lambda *_: next(answers))
    assert keys(search(client, name, VECTORS[0], 1)) == ["k0"]


@pytest.mark.parametrize("drop", ["release_collection", "drop_collection"])
def test_a_search_whose_collection_was_just_replaced_reads_the_routes_once_more(client, name, monkeypatch, drop):
    routes = read_routes(client, name)
    gone = replace(routes, collection=f"{name}_gone")
    client.create_collection(gone.collection, schema=schema(DIMENSION))
    create_index(client, gone.collection, VectorIndex("FLAT"))
    for generation in routes.live:
        client.create_partition(gone.collection, generation.partition)
    client.load_partitions(gone.collection, [generation.partition for generation in routes.live])
    # As a reader has it that searched there before.
    client.search(gone.collection, [[0.0] * DIMENSION], anns_field="vector", limit=1)
    getattr(client, drop)(gone.collection)
    answers = iter([gone, routes])
    monkeypatch.setattr("lakevec.jobs.vectors.search.current_routes", lambda *_: next(answers))
    assert keys(search(client, name, VECTORS[0], 1)) == ["k0"]
    client.drop_collection(gone.collection)


def test_a_question_of_another_model_is_refused(client, name):
    with pytest.raises(MilvusError, match=r"holds vectors of the model tiny@1; .* embedded by other@2"):
        search(client, name, VECTORS[0], 1, model_id="other@2")


def test_an_index_that_is_taken_away_is_missed_by_who_knew_it(client, name, monkeypatch):
    now, other = 0.0, f"{name}_other"
    monkeypatch.setattr("lakevec.jobs.vectors.search.time", SimpleNamespace(monotonic=lambda: now))
    publish(client, other, read_routes(client, name))
    assert keys(search(client, other, VECTORS[0], 1)) == ["k0"]
    client.drop_alias(routes_alias(other))
    client.drop_collection(f"{routes_alias(other)}_1")
    now = KNOWN_SECONDS + 1
    with pytest.raises(MilvusError, match=f"Nothing is indexed yet under {other}"):
        search(client, other, VECTORS[0], 1)


def test_a_name_without_an_index_says_so(client):
    with pytest.raises(MilvusError, match="Nothing is indexed yet under nobody"):
        search(client, "nobody", VECTORS[0], 1)


@pytest.mark.parametrize("k", [0, 16_385])
def test_a_number_of_hits_out_of_bounds_is_refused(client, name, k):
    with pytest.raises(ConfigurationError, match="16,384"):
        search(client, name, VECTORS[0], k)


def test_a_filter_is_made_only_where_a_range_is_partly_covered():
    since, until = (milliseconds(datetime(year, 1, 1, tzinfo=UTC)) for year in (2023, 2025))
    assert ranges_within({"2024": 1, "1965": 2, "2023": 1, "2025": 1}, since, until) == ["2023", "2024"]
    assert time_filter(["2023", "2024"], since, until) == ""
    assert time_filter(["2023", "2024"], since + 1, until) == f"doc_timestamp >= {since + 1}"
    assert time_filter(["1969"], None, -1) == "doc_timestamp < -1"


def test_bounds_finer_than_a_millisecond_leave_no_moment_out():
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_500, tzinfo=UTC)
    assert milliseconds(moment) == 0
    assert milliseconds(moment - timedelta(microseconds=500)) == -1
