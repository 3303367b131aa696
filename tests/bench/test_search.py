"""Searches a second and their latency, at 1, 8 and 32 clients, against bare pymilvus with the same parameters.

LAKEVEC_BENCH_ROWS synthetic vectors over four years, with the default index, asked by random ones; clients are threads
of one process. lakevec reads the routes, chooses the ranges and gives hits with their places; pymilvus is told
collection, partitions, filter and parameters by hand and asks for the same fields. Consistency Bounded for both.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from lakevec.jobs.lake.tables import EMBEDDINGS
from lakevec.jobs.load import load
from lakevec.jobs.progress import Progress
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.index import METRIC, widened
from lakevec.jobs.vectors.routes import read_routes
from lakevec.jobs.vectors.rows import COLUMNS
from lakevec.jobs.vectors.search import milliseconds, search

from .passages import spread
from .test_load import synthetic_embeddings

ROWS = int(os.environ.get("LAKEVEC_BENCH_ROWS", "100000"))
ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "5"))
SECONDS, K, CLIENTS = 4.0, 10, (1, 8, 32)
# Two ranges in part, one as a whole.
SINCE, UNTIL = datetime(2021, 3, 1, tzinfo=UTC), datetime(2023, 9, 1, tzinfo=UTC)

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def measured(one: Callable[[np.ndarray], int], queries: np.ndarray, clients: int) -> dict[str, float]:
    """Searches of so many threads for SECONDS."""
    taken: list[list[float]] = [[] for _ in range(clients)]
    end = time.monotonic() + SECONDS

    def ask(number: int) -> None:
        for query in itertools.islice(itertools.cycle(queries), number, None):
            begun = time.monotonic()
            if begun > end:
                return
            assert one(query) == K
            taken[number].append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    every = np.concatenate(taken)
    p50, p95, p99 = np.percentile(every * 1000, [50, 95, 99])
    return {"qps": len(every) / seconds, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def test_search(lakehouse, tmp_path, keep):
    lake, settings = lakehouse.lake(), lakehouse.settings
    address, alias = MilvusAddress(settings.milvus.uri), settings.milvus.collection
    rows = synthetic_embeddings(lakehouse.spark, ROWS, lake.model.dimension, lake.model.id)
    lake.tables.append(EMBEDDINGS, rows)
    load(lake, settings, address, Progress(terminal=False), tmp_path / "staging")
    queries = np.random.default_rng(0).standard_normal((500, lake.model.dimension)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    client = connect(address)
    routes = read_routes(client, alias)
    assert routes
    limits = {"all": (None, None), "by time": (SINCE, UNTIL)}

    def by_lakevec(name: str) -> Callable[[np.ndarray], int]:
        return lambda query: len(search(client, alias, query, K, *limits[name], consistency="Bounded").hits)

    def by_pymilvus(name: str) -> Callable[[np.ndarray], int]:
        ranges = ["2020", "2021", "2022", "2023"] if name == "all" else ["2021", "2022", "2023"]
        wanted = ""
        if name == "by time":
            wanted = f"doc_timestamp >= {milliseconds(SINCE)} and doc_timestamp < {milliseconds(UNTIL)}"
        given = {
            "collection_name": routes.collection,
            "anns_field": "vector",
            "limit": K,
            "filter": wanted,
            "output_fields": list(COLUMNS),
            "partition_names": [routes.partition(each) for each in ranges],
            "search_params": {"metric_type": METRIC, "params": widened(routes.index.search, K)},
            "consistency_level": "Bounded",
        }
        return lambda query: len(client.search(data=[query.tolist()], **given)[0])

    figures = {}
    for name, clients in itertools.product(limits, CLIENTS):
        found = {"lakevec": [], "pymilvus": []}
        for number in range(ROUNDS):
            ways = [("lakevec", by_lakevec(name)), ("pymilvus", by_pymilvus(name))]
            for way, one in ways[:: 1 if number % 2 else -1]:
                found[way].append(measured(one, queries, clients))
        told = {way: {key: spread(each[key] for each in rounds) for key in rounds[0]} for way, rounds in found.items()}
        pairs = list(zip(found["lakevec"], found["pymilvus"], strict=True))
        told["times_pymilvus"] = {key: spread(ours[key] / theirs[key] for ours, theirs in pairs) for key in pairs[0][0]}
        figures[f"{name}, {clients} clients"] = told
    keep({"rows": ROWS, "index": f"{routes.index.type} {dict(routes.index.build)}", **figures})
