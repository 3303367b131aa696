import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from lakevec.udfs.embed import Embedder, EmbeddingError, batches_of, embedder, with_vectors
from lakevec.udfs.model import Compute, find_model

MODEL = find_model("all-MiniLM-L6-v2")
TEXTS = ["a", "Parents have twelve weeks of leave.", "", "東京は日本の首都です。", "leave " * 150, "🇩🇪 e\u0301", "b c"]
COMPUTE = Compute("cpu", "float32", 1024)


def sentence_transformer(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Embedder:
    def refuse(self, address):
        raise AssertionError(f"the packaged model asked the network for {address}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return embedder(MODEL, COMPUTE)


def test_vectors_are_those_of_sentence_transformers(model):
    expected = sentence_transformer(MODEL.path).encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    vectors = model.embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), 384), np.float32)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_vector_depends_neither_on_the_batch_nor_on_the_order(model):
    together = model.embed(TEXTS)
    np.testing.assert_allclose(np.vstack([model.embed([text]) for text in TEXTS]), together, atol=1e-5)
    np.testing.assert_allclose(model.embed(TEXTS[::-1])[::-1], together, atol=1e-5)


def test_a_text_beyond_the_window_is_cut(model):
    np.testing.assert_allclose(model.embed(["leave " * 5_000]), model.embed(["leave " * 254]), atol=1e-5)


class Stub:
    """A model of the same tokens with another network."""

    def __init__(self, network, model):
        self.network, self.tokens = network, model.tokens

    def __call__(self, tokens):
        return self.network(tokens)


def test_no_texts_give_no_vectors(model):
    assert model.embed([]).shape == (0, 384)


def test_what_is_no_vector_is_refused_with_the_place_of_its_text(model, monkeypatch):
    def broken(tokens):
        vectors = torch.ones((len(tokens.lengths), model.dimension))
        vectors[torch.from_numpy(tokens.lengths == 2), 7] = torch.nan
        return vectors

    monkeypatch.setattr(model, "model", Stub(broken, model.model))
    with pytest.raises(EmbeddingError, match="NaN or infinity for text 1: ''"):
        model.embed(["fine", "", "fine too"])


def test_a_model_is_loaded_once_per_process(model):
    assert embedder(MODEL, COMPUTE) is model


def test_a_model_that_does_not_normalise_gives_unit_vectors_all_the_same(model, tmp_path):
    for file in Path(MODEL.path).iterdir():
        (tmp_path / file.name).symlink_to(file)
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").unlink()
    (tmp_path / "modules.json").write_text(json.dumps(modules[:2]))
    vectors = Embedder(str(tmp_path), COMPUTE).embed(TEXTS)
    np.testing.assert_allclose(vectors, model.embed(TEXTS), atol=1e-5)


def test_bfloat16_gives_float32_vectors_close_to_the_exact_ones(model):
    vectors = Embedder(MODEL.path, replace(COMPUTE, dtype="bfloat16")).embed(TEXTS)
    assert vectors.dtype == np.float32
    assert (vectors * model.embed(TEXTS)).sum(axis=1).min() > 0.99


def test_int8_gives_vectors_close_to_the_exact_ones_whatever_stands_beside_them(model):
    quantised = Embedder(MODEL.path, replace(COMPUTE, dtype="int8"))
    vectors = quantised.embed(TEXTS)
    cosines = (vectors * model.embed(TEXTS)).sum(axis=1)
    # Of words and of no words; whole passages come nearer.
    assert 0.97 < cosines.min() < 0.9999
    assert cosines[TEXTS.index("Parents have twelve weeks of leave.")] > 0.99
    alone = np.concatenate([quantised.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, vectors, atol=1e-5)


def test_int8_is_refused_where_it_cannot_be_computed(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mpnet"}))
    with pytest.raises(EmbeddingError, match=r"cannot be computed in int8 on the device cpu.*model\.dtype"):
        Embedder(str(tmp_path), Compute("cpu", "int8"))
    with pytest.raises(EmbeddingError, match="int8 on the device mps"):
        Embedder(MODEL.path, Compute("mps", "int8"))


def test_int8_chooses_the_cpu(monkeypatch):
    monkeypatch.setattr("lakevec.udfs.embed.best_device", lambda: "cuda")
    assert Embedder(MODEL.path, Compute(None, "int8")).device == "cpu"


def test_batches_are_as_large_as_the_device_likes_unless_somebody_says_it():
    assert Embedder(MODEL.path, Compute("cpu")).batch_tokens == 512
    assert Embedder(MODEL.path, Compute("cpu", batch_tokens=300)).batch_tokens == 300


def test_batches_stay_within_the_padded_tokens():
    assert list(batches_of(np.array([20, 9, 4, 4, 3]), lambda: 12)) == [(0, 1), (1, 2), (2, 5)]
    assert list(batches_of(np.array([], np.int64), lambda: 12)) == []


def test_a_batch_beyond_the_memory_is_halved_and_the_later_ones_are_smaller(model, monkeypatch):
    sizes = []

    def network(tokens):
        sizes.append(len(tokens.values))
        if len(tokens.values) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model_of_before(tokens)

    texts, model_of_before = [f"text {number}" for number in range(30)], model.model
    expected = model.embed(texts)
    fresh = Embedder(MODEL.path, COMPUTE)
    monkeypatch.setattr(fresh, "model", Stub(network, model_of_before))
    # All in one batch, as the model would have it; then two batches of one window.
    np.testing.assert_allclose(fresh.embed(texts), expected, atol=1e-5)
    assert max(sizes) == 120
    assert fresh.batch_tokens <= 40
    sizes.clear()
    fresh.batch_tokens = 60
    fresh.embed(texts)
    assert [size for size in sizes if size > 40] == [60]
    sizes.clear()
    fresh.embed(texts)
    assert max(sizes) <= 40
    with pytest.raises(torch.OutOfMemoryError):
        fresh.embed(["leave " * 100])


def batch_of(texts: list[str]) -> pa.RecordBatch:
    hashes = pa.array([f"of {text}" for text in texts], pa.string())
    return pa.record_batch({"text": pa.array(texts, pa.string()), "content_hash": hashes})


def with_vectors_of(batches: list[list[str]], given=MODEL) -> pa.Table:
    return pa.Table.from_batches(with_vectors(map(batch_of, batches), given, COMPUTE))


def matrix(table: pa.Table) -> np.ndarray:
    return np.vstack(table["vector"].to_pylist())


def test_rows_get_their_vectors_in_place_of_their_texts(model):
    table = with_vectors_of([TEXTS[:3], [], TEXTS[3:]])
    assert table.schema.equals(pa.schema({"content_hash": pa.string(), "vector": pa.list_(pa.float32())}))
    assert table["content_hash"].to_pylist() == [f"of {text}" for text in TEXTS]
    np.testing.assert_allclose(matrix(table), model.embed(TEXTS), atol=1e-5)


def test_texts_of_several_batches_are_sorted_and_embedded_together(model, monkeypatch):
    monkeypatch.setattr(model, "window_rows", 4)
    embedded, tokenise = [], model.tokenise
    monkeypatch.setattr(model, "tokenise", lambda texts: embedded.append(len(texts)) or tokenise(texts))
    table = with_vectors_of([["leave"] * rows for rows in (1, 2, 7, 1, 0)])
    assert embedded == [10, 1]
    assert table.num_rows == 11
    assert list(with_vectors(iter([]), MODEL, COMPUTE)) == []


def test_long_texts_are_embedded_fewer_at_a_time(model, monkeypatch):
    monkeypatch.setattr("lakevec.udfs.embed.WINDOW_BYTES", 20)
    embedded, tokenise = [], model.tokenise
    monkeypatch.setattr(model, "tokenise", lambda texts: embedded.append(texts.to_pylist()) or tokenise(texts))
    with_vectors_of([["leave"], ["parents"], ["a"], ["b"]])
    assert embedded == [["leave", "parents"], ["a", "b"]]


def test_a_machine_that_keeps_the_model_elsewhere_embeds_with_its_own(model):
    table = with_vectors_of([["leave"]], replace(MODEL, path="/home/driver/model"))
    np.testing.assert_allclose(matrix(table), model.embed(["leave"]), atol=1e-6)
