import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lakevec.udfs.embed import Embedder, EmbeddingError, batches_of, embedder, vectors_in
from lakevec.udfs.model import find_model

MODEL = find_model("all-MiniLM-L6-v2")
TEXTS = ["a", "Parents have twelve weeks of leave.", "", "東京は日本の首都です。", "leave " * 150, "🇩🇪 e\u0301", "b c"]
OPTIONS = ("cpu", "float32", 1024)


@pytest.fixture(scope="module")
def model() -> Embedder:
    def refuse(self, address):
        raise AssertionError(f"the packaged model asked the network for {address}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return embedder(MODEL, *OPTIONS)


def test_vectors_are_those_of_sentence_transformers(model):
    expected = model.model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
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


def test_no_texts_give_no_vectors(model):
    assert model.embed([]).shape == (0, 384)


def test_what_is_no_vector_is_refused_with_the_place_of_its_text(model, monkeypatch):
    def broken(ids):
        vectors = np.ones((len(ids), model.dimension), np.float32)
        vectors[[len(row) == 2 for row in ids], 7] = np.nan
        return vectors

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(EmbeddingError, match="NaN or infinity for text 1: ''"):
        model.embed(["fine", "", "fine too"])


def test_a_model_is_loaded_once_per_process(model):
    assert embedder(MODEL, *OPTIONS) is model


def test_a_model_that_does_not_normalise_gives_unit_vectors_all_the_same(model, tmp_path):
    for file in Path(MODEL.path).iterdir():
        (tmp_path / file.name).symlink_to(file)
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").unlink()
    (tmp_path / "modules.json").write_text(json.dumps(modules[:2]))
    vectors = Embedder(str(tmp_path), *OPTIONS).embed(TEXTS)
    np.testing.assert_allclose(vectors, model.embed(TEXTS), atol=1e-5)


def test_bfloat16_gives_float32_vectors_close_to_the_exact_ones(model):
    vectors = Embedder(MODEL.path, "cpu", "bfloat16", 1024).embed(TEXTS)
    assert vectors.dtype == np.float32
    assert (vectors * model.embed(TEXTS)).sum(axis=1).min() > 0.99


def test_batches_hold_the_longest_texts_first_and_stay_within_the_padded_tokens():
    assert list(batches_of([3, 9, 4, 4, 20], 12)) == [[4], [1], [2, 3, 0]]
    assert list(batches_of([], 12)) == []


def test_a_pandas_udf_gets_vectors_batch_by_batch(model):
    series = pd.Series(TEXTS)
    results = list(vectors_in(iter([series[:3], series[3:3], series[3:]]), MODEL, *OPTIONS))
    assert [result.index.tolist() for result in results] == [[0, 1, 2], [], [3, 4, 5, 6]]
    np.testing.assert_allclose(np.vstack(pd.concat(results).tolist()), model.embed(TEXTS), atol=1e-5)


def test_texts_of_several_batches_are_sorted_and_embedded_together(model, monkeypatch):
    monkeypatch.setattr("lakevec.udfs.embed.WINDOW_ROWS", 4)
    embedded, embed = [], model.embed
    monkeypatch.setattr(model, "embed", lambda texts: embedded.append(len(texts)) or embed(texts))
    batches = [pd.Series(["leave"] * rows, dtype=object) for rows in (1, 2, 7, 1, 0)]
    results = list(vectors_in(iter(batches), MODEL, *OPTIONS))
    assert embedded == [10, 1]
    assert [len(result) for result in results] == [1, 2, 7, 1, 0]
    assert list(vectors_in(iter([]), MODEL, *OPTIONS)) == []


def test_a_machine_that_keeps_the_model_elsewhere_embeds_with_its_own(model):
    (vectors,) = vectors_in(iter([pd.Series(["leave"])]), replace(MODEL, path="/home/driver/model"), *OPTIONS)
    np.testing.assert_allclose(np.vstack(vectors.tolist()), model.embed(["leave"]), atol=1e-6)
