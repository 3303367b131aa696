"""Texts a second through lakevec's embedder, against SentenceTransformer.encode and the machine's limit.

Passages are those of LAKEVEC_BENCH_FOLDER, a folder of text files (unset: the sample's), as lakevec cuts them;
and texts of just 149 tokens out of the same files. On a GPU where there is one, else on the CPU. Rounds are
interleaved; ratios are of one round. Most words are known from the round before, as they are in a long run; on a GPU
the texts themselves come again. The limit is what the tokens' products would take at the rate of a
large matrix product in the same number format; with LAKEVEC_BENCH_DTYPE=int8, in float32.
"""

import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from lakevec.udfs.embed import Embedder, with_vectors
from lakevec.udfs.model import Compute, find_model, read_json

from .passages import deciles_of_tokens, passages_of, spread

MODEL = find_model("all-MiniLM-L6-v2")
ON_GPU = torch.cuda.is_available()
COMPUTE = Compute(
    "cuda" if ON_GPU else "cpu", os.environ.get("LAKEVEC_BENCH_DTYPE", "bfloat16" if ON_GPU else "float32")
)
# Of its peers.
DTYPE = "float32" if COMPUTE.dtype == "int8" else COMPUTE.dtype
ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "5"))
# So many texts take a second or more.
TEXTS, PEERS_TEXTS = (131_072, 4_096) if ON_GPU else (256, 256)
BATCHES = (128, 512, 2_048) if ON_GPU else (8, 16, 32, 64)
ARROW_ROWS = 10_000
EXACT_TOKENS = 149

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def passages(tmp_path_factory) -> list[str]:
    return passages_of(MODEL.path, tmp_path_factory.mktemp("sample"))


def of_exact_length(passages: list[str]) -> list[str]:
    """Texts of EXACT_TOKENS tokens, special tokens included."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{MODEL.path}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    long = [(text, each) for text, each in zip(passages, tokenizer.encode_batch(passages), strict=True)]
    cut = [text[: each.offsets[EXACT_TOKENS - 2][1]] for text, each in long if len(each) >= EXACT_TOKENS]
    return [text for text in cut if len(tokenizer.encode(text)) == EXACT_TOKENS]


def times_of(texts: list[str], number: int) -> list[str]:
    """As many texts, from the beginning again where there are fewer."""
    return (texts * (number // len(texts) + 1))[:number]


def seconds(work) -> float:
    if ON_GPU:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def flops(lengths: np.ndarray) -> float:
    """Of all products for texts of so many tokens."""
    config = read_json(Path(MODEL.path) / "config.json")
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    return float((layers * (2 * (4 * hidden**2 + 2 * hidden * inner) + 4 * lengths * hidden) * lengths).sum())


def peak() -> float:
    """FLOP a second of a large matrix product."""
    size = 8_192 if ON_GPU else 2_048
    a, b = (torch.randn(size, size, device=COMPUTE.device, dtype=getattr(torch, DTYPE)) for _ in range(2))
    repeats = 20 if ON_GPU else 1
    return 2 * size**3 * repeats / min(seconds(lambda: [a @ b for _ in range(repeats)]) for _ in range(5))


@pytest.mark.parametrize("name", ["real lengths", f"{EXACT_TOKENS} tokens"])
def test_kernel(name, passages, keep):
    from sentence_transformers import SentenceTransformer

    texts = passages if name == "real lengths" else of_exact_length(passages)
    few, many = times_of(texts, PEERS_TEXTS), pa.table({"text": times_of(texts, TEXTS)})
    batches = many.to_batches(max_chunksize=ARROW_ROWS)
    documented = SentenceTransformer(MODEL.path, device=COMPUTE.device)
    same_dtype = SentenceTransformer(MODEL.path, device=COMPUTE.device, model_kwargs={"dtype": getattr(torch, DTYPE)})
    embedder = Embedder(MODEL.path, COMPUTE)
    lengths = embedder.model.tokens(many["text"].combine_chunks()).lengths
    best = best_batch(same_dtype, few)
    ways = {
        "lakevec": lambda: len(many) / seconds(lambda: through_lakevec(batches, COMPUTE)),
        "encode": lambda: len(few) / seconds(lambda: documented.encode(few)),
        "encode_best_batch": lambda: len(few) / seconds(lambda: same_dtype.encode(few, batch_size=best)),
        "limit": lambda: len(many) * peak() / flops(lengths),
    }
    if COMPUTE.dtype == "int8":
        exactly = replace(COMPUTE, dtype="float32")
        ways["lakevec_float32"] = lambda: len(many) / seconds(lambda: through_lakevec(batches, exactly))
    for measure in ways.values():
        measure()
    # In turns, so that none always runs after the same other.
    orders = [list(ways)[:: 1 if number % 2 else -1] for number in range(ROUNDS)]
    rounds = [{name: ways[name]() for name in order} for order in orders]
    exact = documented.encode(few[:512], normalize_embeddings=True)
    report = {
        "texts": name,
        "device": torch.cuda.get_device_name() if ON_GPU else "cpu",
        "dtype": COMPUTE.dtype,
        "deciles_of_tokens": deciles_of_tokens(lengths),
        "best_batch": best,
        "lowest_cosine": float((embedder.embed(few[:512]) * exact).sum(axis=1).min()),
        "texts_per_second": {key: spread([each[key] for each in rounds]) for key in ways},
        "lakevec_tokens_per_second": round(statistics.median(each["lakevec"] for each in rounds) * lengths.mean()),
        "ratios": {
            f"{ours} to {other}": spread([each[ours] / each[other] for each in rounds])
            for ours in ("lakevec", "lakevec_float32")
            for other in ways
            if ours in ways and other not in ("lakevec", ours)
        },
    }
    keep(report)
    # Judged collections tell more of what is not exact (test_quality.py).
    assert report["lowest_cosine"] >= (0.98 if COMPUTE.dtype == "int8" else 0.999)


def through_lakevec(batches: list[pa.RecordBatch], compute: Compute) -> list[pa.RecordBatch]:
    """As a task of Spark does it, but for Spark."""
    return list(with_vectors(iter(batches), MODEL, compute))


def best_batch(model, texts: list[str]) -> int:
    return min(BATCHES, key=lambda batch: seconds(lambda: model.encode(texts, batch_size=batch)))
