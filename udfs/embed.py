"""From texts to unit vectors, with a model that is loaded once per process."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .model import Model, model_here, window_of

if TYPE_CHECKING:
    import pandas as pd

# So many texts at least, where there are so many, are sorted by length and embedded together.
WINDOW_ROWS = 2_048


class EmbeddingError(Exception):
    """The model gave something that is no vector. The message says for which text."""


class Embedder:
    """A sentence-transformers model on one device."""

    def __init__(self, model_path: str, device: str | None = None, dtype: str = "float32", batch_tokens: int = 4096):
        import torch
        from sentence_transformers import SentenceTransformer
        from tokenizers import Tokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.device = device or best_device()
        self.batch_tokens = batch_tokens
        self.model = SentenceTransformer(
            model_path,
            device=self.device,
            local_files_only=True,
            model_kwargs={"dtype": getattr(torch, dtype)},
        ).eval()
        tokenizer = self.model.tokenizer
        self.pad_id: int = tokenizer.pad_token_id or 0
        self.pads_left = tokenizer.padding_side == "left"
        self.inputs = [name for name in tokenizer.model_input_names if name == "token_type_ids"]
        # A copy: the model's own methods set padding and truncation on theirs.
        self.tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(window_of(Path(model_path)))
        self.dimension = self.forward([self.tokenizer.encode("a").ids]).shape[1]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32, shape (len(texts), dimension), in the order of the texts.

        A text that is longer than the model's window is cut. Raises EmbeddingError for NaN or infinity.
        """
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for batch in batches_of([len(row) for row in ids], self.batch_tokens):
            vectors[batch] = self.forward([ids[index] for index in batch])
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            raise EmbeddingError(f"The model gave NaN or infinity for text {broken[0]}: {texts[broken[0]][:80]!r}")
        return vectors

    def forward(self, ids: list[list[int]]) -> np.ndarray:
        """Unit vectors of one batch of token ids."""
        import torch

        width = max(map(len, ids))
        tokens = np.full((len(ids), width), self.pad_id, np.int64)
        mask = np.zeros((len(ids), width), np.int64)
        for row, values in enumerate(ids):
            place = slice(width - len(values), width) if self.pads_left else slice(0, len(values))
            tokens[row, place] = values
            mask[row, place] = 1
        features: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask}
        features |= {name: np.zeros_like(tokens) for name in self.inputs}
        features = {name: torch.from_numpy(value).to(self.device) for name, value in features.items()}
        with torch.inference_mode():
            vectors = self.model(features)["sentence_embedding"].float()
            return torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()


def batches_of(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches, longest texts first; a batch has at most batch_tokens tokens, padding included."""
    batch: list[int] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        width = width or lengths[index]
        if batch and (len(batch) + 1) * width > batch_tokens:
            yield batch
            batch, width = [], lengths[index]
        batch.append(index)
    if batch:
        yield batch


def best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@cache
def embedder(model: Model, device: str | None, dtype: str, batch_tokens: int) -> Embedder:
    """One model per worker, kept over micro-batches."""
    return Embedder(model_here(model), device, dtype, batch_tokens)


def vectors_in(
    series: "Iterator[pd.Series]",
    model: Model,
    device: str | None = None,
    dtype: str = "float32",
    batch_tokens: int = 4096,
) -> "Iterator[pd.Series]":
    """Vectors for texts, batch by batch and in their order: the body of an iterator pandas UDF."""
    import pandas as pd

    kept = embedder(model, device, dtype, batch_tokens)
    for window in windows(series):
        vectors = iter(kept.embed([text for texts in window for text in texts]))
        for texts in window:
            yield pd.Series(list(islice(vectors, len(texts))), index=texts.index, dtype=object)


def windows(series: "Iterator[pd.Series]") -> "Iterator[list[pd.Series]]":
    """The batches in lists of WINDOW_ROWS rows or more together, but for the last."""
    window: list[pd.Series] = []
    rows = 0
    for texts in series:
        window.append(texts)
        rows += len(texts)
        if rows >= WINDOW_ROWS:
            yield window
            window, rows = [], 0
    if window:
        yield window
