"""BERT encoders over packed tokens: no padding, so that no product is computed for nothing.

Texts of a batch lie one after another in one row of tokens. All that works token by token is one matrix
product for the batch; attention looks within each text. It reads the weights straight from their file, so
that a worker starts without the libraries that describe a model, and workers of one machine share the pages of
what is computed in the file's own number format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .linear import Int8Linear, Linear
from .model import modules_of, pooling_of, read_json, weights_files, window_of
from .ragged import Ragged
from .tokens import load_tokenizer
from .wordpiece import WordPiece, is_word_piece

if TYPE_CHECKING:
    import torch

# The keys of a BERT that carries a head of its own begin so.
PREFIX = "bert."


@dataclass(frozen=True)
class Norm:
    weight: "torch.Tensor"
    bias: "torch.Tensor"
    epsilon: float

    def __call__(self, hidden: "torch.Tensor") -> "torch.Tensor":
        from torch.nn.functional import layer_norm

        return layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class Layer:
    """qkv has the maps of query, key and value together."""

    qkv: Linear | Int8Linear
    out: Linear | Int8Linear
    out_norm: Norm
    up: Linear | Int8Linear
    down: Linear | Int8Linear
    down_norm: Norm


class Bert:
    """A BERT encoder with its tokenizer and mean or CLS pooling, on one device.

    dtype: of the computation; int8 stands for linear maps in whole numbers, and float32 for all else.
    """

    def __init__(self, folder: Path, device: str, dtype: "torch.dtype"):
        import torch

        config = read_json(folder / "config.json")
        self.word_piece, self.window = WordPiece(load_tokenizer(str(folder))), window_of(folder)
        self.device, self.heads = torch.device(device), config["num_attention_heads"]
        self.pooling = pooling_of(folder, modules_of(folder))
        tensors = Weights(folder, self.device, dtype, config["layer_norm_eps"])
        self.words = tensors["embeddings.word_embeddings.weight"]
        # There is but one segment: its vector goes with the place's.
        self.places = (
            tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self.norm = tensors.norm("embeddings.LayerNorm")
        self.layers = [tensors.layer(f"encoder.layer.{number}") for number in range(config["num_hidden_layers"])]
        self.by_flash = dtype in (torch.float16, torch.bfloat16) and has_flash(self.device)

    def tokens(self, texts: pa.Array) -> Ragged:
        """Token ids, texts beyond the model's window cut."""
        return self.word_piece.encode(texts, self.window)

    def __call__(self, texts: Ragged) -> "torch.Tensor":
        """Pooled vectors, float32, shape (texts, hidden size). Neighbours of equal length make it faster."""
        import torch

        starts, total = self.on_device(texts.starts.astype(np.int32)), len(texts.values)
        first = torch.repeat_interleave(starts[:-1], starts.diff(), output_size=total)
        place = torch.arange(total, device=self.device) - first
        hidden = self.norm(self.words[self.on_device(texts.values)] + self.places[place])
        for layer in self.layers:
            query, key, value = layer.qkv(hidden).unflatten(1, (3, self.heads, -1)).unbind(1)
            seen = self.attention(query, key, value, texts.lengths, starts).flatten(1)
            # In place, as in `activated`: a new tensor costs a CPU more than what is computed into it.
            hidden = layer.out_norm(layer.out(seen).add_(hidden))
            hidden = layer.down_norm(layer.down(self.activated(layer.up, hidden)).add_(hidden))
        if self.pooling == "cls":
            return hidden[starts[:-1].long()].float()
        return torch.segment_reduce(hidden.float(), "mean", offsets=starts.long())

    def activated(self, up: Linear | Int8Linear, hidden: "torch.Tensor") -> "torch.Tensor":
        import torch

        if self.by_flash and isinstance(up, Linear):
            # GELU in the product's epilogue, by tanh: below the rounding of 16 bits.
            return torch.ops.aten._addmm_activation(up.bias, hidden, up.weight.t(), use_gelu=True)
        return torch.ops.aten.gelu_(up(hidden))

    def attention(
        self,
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        lengths: np.ndarray,
        starts: "torch.Tensor",
    ) -> "torch.Tensor":
        """Each of shape (tokens, heads, dimension of a head); a token sees its own text."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        if self.by_flash:
            from torch.nn.attention.varlen import varlen_attn

            longest = int(lengths.max())
            # A tensor, where nothing else was asked for.
            return varlen_attn(query, key, value, starts, starts, longest, longest)  # pyright: ignore[reportReturnType]
        seen = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        for first, rows, length in runs(lengths):
            tokens = slice(first, first + rows * length)
            q, k, v = (part[tokens].unflatten(0, (rows, length)).transpose(1, 2) for part in (query, key, value))
            seen[tokens] = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
        return seen

    def on_device(self, array: np.ndarray) -> "torch.Tensor":
        import torch

        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


class Weights:
    """The tensors of a model's file by their names in BERT, on a device."""

    def __init__(self, folder: Path, device: "torch.device", dtype: "torch.dtype", epsilon: float):
        import torch

        self.tensors = read_weights(folder)
        self.device, self.epsilon = device, epsilon
        self.dtype = torch.float32 if dtype == torch.int8 else dtype
        self.linear_map = Int8Linear if dtype == torch.int8 else Linear
        self.prefix = PREFIX if f"{PREFIX}embeddings.word_embeddings.weight" in self.tensors else ""

    def __getitem__(self, name: str) -> "torch.Tensor":
        return self.tensors[self.prefix + name].to(self.device, self.dtype)

    def norm(self, name: str) -> Norm:
        return Norm(self[f"{name}.weight"], self[f"{name}.bias"], self.epsilon)

    def linear(self, *names: str) -> Linear | Int8Linear:
        """The linear maps of these names as one."""
        import torch

        weights, biases = ([self[f"{name}.{kind}"] for name in names] for kind in ("weight", "bias"))
        # As one tensor it would be a copy, and no longer the file's pages.
        return self.linear_map(*(each[0] if len(names) == 1 else torch.cat(each) for each in (weights, biases)))

    def layer(self, name: str) -> Layer:
        return Layer(
            qkv=self.linear(*(f"{name}.attention.self.{part}" for part in ("query", "key", "value"))),
            out=self.linear(f"{name}.attention.output.dense"),
            out_norm=self.norm(f"{name}.attention.output.LayerNorm"),
            up=self.linear(f"{name}.intermediate.dense"),
            down=self.linear(f"{name}.output.dense"),
            down_norm=self.norm(f"{name}.output.LayerNorm"),
        )


def read_weights(folder: Path) -> dict[str, "torch.Tensor"]:
    """All tensors of a model's files; pages of memory that all processes of the machine share."""
    import torch
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for file in weights_files(folder):
        if file.suffix == ".safetensors":
            tensors |= load_file(file)
        else:
            tensors |= torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return tensors


def is_bert(folder: Path) -> bool:
    """Whether a model's folder holds what Bert computes, and nothing more."""
    config, modules = read_json(folder / "config.json") or {}, modules_of(folder)
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and modules[0]["path"] == ""
        and kinds in (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and pooling_of(folder, modules) in ("mean", "cls")
        and is_word_piece(read_json(folder / "tokenizer.json"), read_json(folder / "tokenizer_config.json"))
        and bool(weights_files(folder))
    )


def has_flash(device: "torch.device") -> bool:
    """Whether attention over rows of unequal length is at hand, for numbers of 16 bits (from Ampere on)."""
    import torch

    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def runs(lengths: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Neighbouring rows of equal length as (first value, rows, length)."""
    first, edges = 0, np.flatnonzero(np.diff(lengths)) + 1
    for rows in np.split(lengths, edges):
        if len(rows):
            yield first, len(rows), int(rows[0])
            first += len(rows) * int(rows[0])
