import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from lakevec.udfs.bert import Bert, is_bert, runs
from lakevec.udfs.embed import Embedder
from lakevec.udfs.model import Compute, find_model
from lakevec.udfs.transformer import Transformer
from safetensors.torch import load_file

FOLDER = Path(find_model("all-MiniLM-L6-v2").path)
TEXTS = ["a", "Parents have twelve weeks of leave.", "", "東京は日本の首都です。", "leave " * 300, "b c", "d e"]


def linked(folder: Path, *left_out: str) -> Path:
    """The packaged model again, some files left out."""
    for file in FOLDER.iterdir():
        if file.name not in left_out:
            (folder / file.name).symlink_to(file)
    return folder


def written(folder: Path, name: str, **changes) -> None:
    (folder / name).write_text(json.dumps(json.loads((FOLDER / name).read_text()) | changes))


def assert_same_vectors(folder: Path) -> None:
    bert, other = Bert(folder, "cpu", torch.float32), Transformer(folder, "cpu", torch.float32)
    tokens, expected = bert.tokens(pa.array(TEXTS)), other.tokens(pa.array(TEXTS))
    np.testing.assert_array_equal(tokens.values, expected.values)
    with torch.inference_mode():
        np.testing.assert_allclose(
            torch.nn.functional.normalize(bert(tokens)).numpy(),
            torch.nn.functional.normalize(other(expected)).numpy(),
            atol=1e-5,
        )


def test_vectors_are_those_of_the_library_of_the_model():
    assert_same_vectors(FOLDER)


def test_a_text_is_its_first_token_where_the_model_says_so(tmp_path):
    linked(tmp_path, "1_Pooling")
    (tmp_path / "1_Pooling").mkdir()
    written(tmp_path, "1_Pooling/config.json", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    assert is_bert(tmp_path)
    assert_same_vectors(tmp_path)


def test_weights_of_a_model_with_a_head_and_in_the_older_format(tmp_path):
    linked(tmp_path, "model.safetensors")
    weights = load_file(FOLDER / "model.safetensors")
    named = {f"bert.{name}": tensor for name, tensor in weights.items()} | {"cls.bias": torch.zeros(1)}
    torch.save(named, tmp_path / "pytorch_model.bin")
    bert, other = Bert(tmp_path, "cpu", torch.float32), Bert(FOLDER, "cpu", torch.float32)
    with torch.inference_mode():
        assert torch.equal(bert(bert.tokens(pa.array(TEXTS))), other(other.tokens(pa.array(TEXTS))))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"model_type": "mpnet"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"is_decoder": True}),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}),
    ],
)
def test_what_is_computed_otherwise_is_no_bert(tmp_path, file, change):
    written(linked(tmp_path, file), file, **change)
    assert is_bert(FOLDER)
    assert not is_bert(tmp_path)


def test_a_model_with_more_modules_is_left_to_its_library(tmp_path):
    linked(tmp_path, "modules.json")
    modules = json.loads((FOLDER / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([*modules, {"path": "3_Dense", "type": "models.Dense"}]))
    assert not is_bert(tmp_path)


def test_any_other_architecture_is_embedded_by_its_library(tmp_path):
    from sentence_transformers import SentenceTransformer
    from transformers import DistilBertConfig, DistilBertModel

    for file in FOLDER.glob("*token*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.manual_seed(0)
    small = DistilBertConfig(vocab_size=30_522, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    DistilBertModel(small).save_pretrained(tmp_path)
    embedder = Embedder(str(tmp_path), Compute("cpu"))
    assert isinstance(embedder.model, Transformer)
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(embedder.embed(TEXTS), expected, atol=1e-5)


def test_runs_of_equal_length():
    assert list(runs(np.array([7, 7, 4, 3, 3, 3]))) == [(0, 2, 7), (14, 1, 4), (18, 3, 3)]
    assert list(runs(np.array([], np.int64))) == []
