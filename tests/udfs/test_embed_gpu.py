"""What only a GPU shows. It needs nothing but the model: no Spark, no server."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from lakevec.udfs.embed import Embedder, embedder, with_vectors
from lakevec.udfs.model import Compute, find_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")

MODEL = find_model("all-MiniLM-L6-v2")
GPU = Compute("cuda", "bfloat16", 131_072)
TEXTS = [f"Passage {number}: " + "leave and brakes, " * (number % 90) for number in range(1_000)]


@pytest.fixture(scope="module")
def exact() -> np.ndarray:
    return Embedder(MODEL.path, Compute("cpu")).embed(TEXTS)


@pytest.mark.parametrize(("dtype", "cosine"), [("float32", 0.999999), ("float16", 0.9999), ("bfloat16", 0.999)])
def test_vectors_are_those_of_a_cpu(exact, dtype, cosine):
    vectors = Embedder(MODEL.path, replace(GPU, dtype=dtype)).embed(TEXTS)
    assert (vectors * exact).sum(axis=1).min() > cosine


def test_windows_on_their_way_together_keep_their_order(exact, monkeypatch):
    monkeypatch.setattr(embedder(MODEL, GPU), "window_rows", 100)
    batches = pa.table({"text": TEXTS}).to_batches(max_chunksize=70)
    vectors = pa.Table.from_batches(with_vectors(iter(batches), MODEL, GPU))["vector"]
    assert (np.vstack(vectors.to_pylist()) * exact).sum(axis=1).min() > 0.999


def test_memory_stays_below_the_fraction_and_a_batch_beyond_it_is_halved(exact):
    device = torch.device("cuda")
    torch.cuda.empty_cache()
    fraction = 1_000 * 2**20 / torch.cuda.mem_get_info(device)[1]
    texts = TEXTS * 20
    try:
        embedder = Embedder(MODEL.path, replace(GPU, batch_tokens=8_000_000, memory_fraction=fraction))
        torch.cuda.reset_peak_memory_stats(device)
        vectors = embedder.embed(texts)
        assert torch.cuda.max_memory_reserved(device) <= 1_000 * 2**20
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert embedder.batch_tokens < 8_000_000
    assert (vectors * np.tile(exact, (20, 1))).sum(axis=1).min() > 0.999
