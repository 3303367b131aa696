import json
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from lakevec.udfs.embed import (
    SCHEMA,
    Embedder,
    EmbeddingError,
    as_lists,
    batches_of,
    embedder,
    vectors_in,
    vectors_of,
    windows,
)
from lakevec.udfs.model import find_model

MODEL = find_model("all-MiniLM-L6-v2").path
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
    for file in Path(MODEL).iterdir():
        (tmp_path / file.name).symlink_to(file)
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").unlink()
    (tmp_path / "modules.json").write_text(json.dumps(modules[:2]))
    vectors = Embedder(str(tmp_path), *OPTIONS).embed(TEXTS)
    np.testing.assert_allclose(vectors, model.embed(TEXTS), atol=1e-5)


def test_bfloat16_gives_float32_vectors_close_to_the_exact_ones(model):
    vectors = Embedder(MODEL, "cpu", "bfloat16", 1024).embed(TEXTS)
    assert vectors.dtype == np.float32
    assert (vectors * model.embed(TEXTS)).sum(axis=1).min() > 0.99


def test_batches_hold_the_longest_texts_first_and_stay_within_the_padded_tokens():
    assert list(batches_of([3, 9, 4, 4, 20], 12)) == [[4], [1], [2, 3, 0]]
    assert list(batches_of([], 12)) == []


def test_windows_gather_small_batches_and_cut_large_ones(monkeypatch):
    monkeypatch.setattr("lakevec.udfs.embed.WINDOW_ROWS", 4)
    batches = [pa.RecordBatch.from_pydict({"n": n}) for n in ([1], [2, 3], [4, 5, 6, 7, 8, 9, 10], [11])]
    assert [window["n"].to_pylist() for window in windows(iter(batches))] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]
    assert list(windows(iter([]))) == []


def test_arrow_lists_hold_the_rows():
    assert as_lists(np.array([[1, 2], [3, 4]], np.float32)).to_pylist() == [[1, 2], [3, 4]]
    assert as_lists(np.empty((0, 2), np.float32)).to_pylist() == []


def test_rows_of_texts_become_rows_of_vectors_in_their_order(model):
    hashes = [f"hash {number}" for number in range(len(TEXTS))]
    rows = pa.RecordBatch.from_pydict({"content_hash": hashes, "embedded": TEXTS})
    (result,) = vectors_of(iter([rows.slice(0, 3), rows.slice(3)]), MODEL, *OPTIONS)
    assert result.schema == SCHEMA
    assert result["content_hash"].to_pylist() == hashes
    np.testing.assert_allclose(result["vector"].to_pylist(), model.embed(TEXTS), atol=1e-5)


def test_a_pandas_udf_gets_vectors_batch_by_batch(model):
    series = pd.Series(TEXTS)
    results = list(vectors_in(iter([series[:3], series[3:3], series[3:]]), MODEL, *OPTIONS))
    assert [len(result) for result in results] == [3, 0, 4]
    np.testing.assert_allclose(np.vstack(pd.concat(results).tolist()), model.embed(TEXTS), atol=1e-5)
