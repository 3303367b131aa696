"""Exact search of many queries in a task (udfs/nearest.py), without Spark, against NumPy, torch and FAISS in the same
blocks and against the machine's matrix product: what of its FLOP/s the search keeps.

Vectors are synthetic unit vectors; LAKEVEC_BENCH_ROWS of them, 1,000 queries, 100 neighbours.
"""

import os
import time
from statistics import median

import numpy as np
import pytest
import torch
from lakevec.udfs.nearest import BLOCK_ROWS, Nearest

ROWS = int(os.environ.get("LAKEVEC_BENCH_ROWS", "100000"))
QUERIES, DIMENSION, K, ROUNDS = 1_000, 384, 100, 5
BATCH_ROWS = 2_000

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


def unit_vectors(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((rows, DIMENSION), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def by_lakevec(queries: np.ndarray, vectors: np.ndarray, names: list[str]) -> np.ndarray:
    nearest = Nearest(queries, [None] * len(queries), K)
    for first in range(0, len(vectors), BATCH_ROWS):
        nearest.add(names[first : first + BATCH_ROWS], vectors[first : first + BATCH_ROWS])
    return np.array([keys[:K] for _, _, keys in nearest.found()], dtype=object)


def by_numpy(queries: np.ndarray, vectors: np.ndarray, _: list[str]) -> np.ndarray:
    scores, places = [], []
    for first in range(0, len(vectors), BLOCK_ROWS):
        every = queries @ vectors[first : first + BLOCK_ROWS].T
        best = np.argpartition(-every, K, axis=1)[:, :K]
        scores.append(np.take_along_axis(every, best, axis=1))
        places.append(best + first)
    best = np.argsort(-np.concatenate(scores, axis=1), axis=1)[:, :K]
    return np.take_along_axis(np.concatenate(places, axis=1), best, axis=1)


def by_torch(queries: np.ndarray, vectors: np.ndarray, _: list[str]) -> np.ndarray:
    asked, scores, places = torch.from_numpy(queries), [], []
    for first in range(0, len(vectors), BLOCK_ROWS):
        best = (asked @ torch.from_numpy(vectors[first : first + BLOCK_ROWS]).T).topk(K, dim=1)
        scores.append(best.values)
        places.append(best.indices + first)
    best = torch.cat(scores, dim=1).topk(K, dim=1).indices
    return torch.cat(places, dim=1).gather(1, best).numpy()


def by_faiss(queries: np.ndarray, vectors: np.ndarray, _: list[str]) -> np.ndarray:
    # It comes with milvus-lite.
    import faiss

    scores, places = [], []
    for first in range(0, len(vectors), BLOCK_ROWS):
        found = faiss.knn(queries, vectors[first : first + BLOCK_ROWS], K, metric=faiss.METRIC_INNER_PRODUCT)
        scores.append(found[0])
        places.append(found[1] + first)
    best = np.argsort(-np.concatenate(scores, axis=1), axis=1)[:, :K]
    return np.take_along_axis(np.concatenate(places, axis=1), best, axis=1)


def product_flops(size: int = 4096) -> float:
    """FLOP/s of NumPy's float32 matrix product."""
    left, right = (np.random.default_rng(seed).standard_normal((size, size), np.float32) for seed in (0, 1))
    left @ right
    begun = time.monotonic()
    left @ right
    return 2 * size**3 / (time.monotonic() - begun)


def test_exact_search_against_the_matrix_product(keep):
    vectors, queries = unit_vectors(ROWS, 0), unit_vectors(QUERIES, 1)
    names = [str(number) for number in range(ROWS)]
    ways = {"lakevec": by_lakevec, "numpy": by_numpy, "torch": by_torch, "faiss": by_faiss}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    products, found = [], {}
    for _ in range(ROUNDS):
        products.append(product_flops())
        for name, way in ways.items():
            begun = time.monotonic()
            found[name] = way(queries, vectors, names)
            seconds[name].append(time.monotonic() - begun)
    # The same neighbours, but for two that a last digit parts.
    agree = np.mean(
        [len({*ours} & {*map(str, theirs)}) for ours, theirs in zip(found["lakevec"], found["numpy"], strict=True)]
    )
    assert agree > 0.999 * K
    flop = 2 * QUERIES * ROWS * DIMENSION
    peak = max(products)
    keep(
        {
            "rows": ROWS,
            "queries": QUERIES,
            "k": K,
            "product_gflops": {"best": round(peak / 1e9), "all": [round(each / 1e9) for each in products]},
            "seconds": {name: [round(each, 2) for each in times] for name, times in seconds.items()},
            "fraction_of_product": {name: round(flop / median(times) / peak, 2) for name, times in seconds.items()},
            "times_faster_than": {
                name: {
                    "median": round(median(pairs), 2), "min": round(min(pairs), 2), "max": round(max(pairs), 2),
                    "n": len(pairs),
                }
                for name, pairs in (
                    (name, [theirs / ours for theirs, ours in zip(seconds[name], seconds["lakevec"], strict=True)])
                    for name in ("numpy", "torch", "faiss")
                )
            },
        }
    )  # fmt: skip
