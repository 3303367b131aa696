import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from lakevec.udfs.model import Model, ModelNotFound, find_model, model_here

MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
CLS = {"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
MEAN = {"word_embedding_dimension": 8, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def write_model(folder: Path, weights: bytes = b"weights", pooling: dict = MEAN, **files: dict) -> str:
    """A folder with what is read of a model; `files` are further JSON files by name without ending."""
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    contents = {"config": {"hidden_size": 8, "max_position_embeddings": 512}, "modules": MODULES} | files
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return str(folder)


def test_the_packaged_model_is_known_by_its_name():
    model = find_model("all-MiniLM-L6-v2")
    assert re.fullmatch(r"all-MiniLM-L6-v2@[0-9a-f]{12}-mean-norm", model.id)
    assert (model.name, model.window, model.dimension) == ("all-MiniLM-L6-v2", 256, 384)
    assert (Path(model.path) / "tokenizer.json").is_file()


def test_finding_a_model_does_not_load_torch():
    code = (
        "import sys; from lakevec.udfs import chunk, embed, model; model.find_model('all-MiniLM-L6-v2'); "
        "print([name for name in ('torch', 'transformers', 'pyspark', 'lakevec.jobs') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_folder_gives_its_facts(tmp_path):
    folder = write_model(tmp_path / "tiny", sentence_bert_config={"max_seq_length": 64})
    model = find_model(folder)
    assert model == Model(folder, model.id, folder, window=64, dimension=8)
    assert re.fullmatch(r"tiny@[0-9a-f]{12}-mean-norm", model.id)


def test_equal_files_at_another_path_are_the_same_model(tmp_path):
    first = find_model(write_model(tmp_path / "here" / "tiny"))
    second = find_model(write_model(tmp_path / "there" / "tiny"))
    assert first.id == second.id


@pytest.mark.parametrize("change", [{"weights": b"other weights"}, {"pooling": CLS}])
def test_other_weights_or_other_pooling_are_another_model(tmp_path, change):
    first = find_model(write_model(tmp_path / "here" / "tiny"))
    assert find_model(write_model(tmp_path / "there" / "tiny", **change)).id != first.id


def test_weights_replaced_in_place_are_noticed(tmp_path):
    folder = write_model(tmp_path / "tiny")
    before = find_model(folder)
    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"trained further")
    assert find_model(folder).id != before.id


def test_without_a_sentence_length_the_window_is_the_smaller_of_tokenizer_and_positions(tmp_path):
    folder = write_model(tmp_path / "tiny", tokenizer_config={"model_max_length": 10**30})
    assert find_model(folder).window == 512
    folder = write_model(tmp_path / "tiny-128", tokenizer_config={"model_max_length": 128})
    assert find_model(folder).window == 128


def test_a_dense_layer_sets_the_dimension_and_belongs_to_the_weights(tmp_path):
    dense = {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    folder = tmp_path / "tiny"
    plain = find_model(write_model(folder))
    (folder / "modules.json").write_text(json.dumps([*MODULES, dense]))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 8, "out_features": 3}))
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"dense")
    model = find_model(str(folder))
    assert model.dimension == 3
    assert model.id != plain.id


def test_a_hub_model_is_named_by_its_last_part(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "snapshots" / "0f3a")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: folder)
    model = find_model("somebody/tiny")
    assert (model.name, model.path, model.id.split("@")[0]) == ("somebody/tiny", folder, "tiny")


def test_a_hub_model_without_a_hub_is_not_found(monkeypatch):
    def unreachable(name, **options):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelNotFound, match=r"somebody/tiny is neither all-MiniLM-L6-v2.*offline"):
        find_model("somebody/tiny")


def test_a_missing_folder_and_one_without_a_model_are_not_found(tmp_path):
    with pytest.raises(ModelNotFound, match="there is no folder"):
        find_model(str(tmp_path / "nowhere"))
    with pytest.raises(ModelNotFound, match=r"config\.json is missing"):
        find_model(str(tmp_path))


def test_a_folder_without_weights_is_not_found(tmp_path):
    folder = write_model(tmp_path / "tiny")
    (tmp_path / "tiny" / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="holds no weights"):
        find_model(folder)


def test_a_model_is_found_anew_on_a_machine_that_keeps_it_elsewhere(tmp_path, monkeypatch):
    here = write_model(tmp_path / "snapshots" / "0f3a")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: here)
    model = find_model("somebody/tiny")
    elsewhere = pickle.loads(pickle.dumps(replace(model, path="/home/driver/snapshots/0f3a")))

    assert model_here(model) == model_here(elsewhere) == here
    with pytest.raises(ModelNotFound, match=r"somebody/tiny is tiny@other where .* holds tiny@.*the same files"):
        model_here(replace(elsewhere, id="tiny@other"))


def test_a_folder_that_other_machines_do_not_have_is_told(tmp_path):
    model = find_model(write_model(tmp_path / "tiny"))
    (tmp_path / "tiny").rename(tmp_path / "moved")

    with pytest.raises(ModelNotFound, match="there is no folder"):
        model_here(model)
