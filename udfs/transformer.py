"""Any sentence-transformers model, run by its own library over padded batches."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .model import window_of
from .ragged import Ragged

if TYPE_CHECKING:
    import torch


class Transformer:
    """A model of any architecture, with its tokenizer, on one device."""

    def __init__(self, folder: Path, device: str, dtype: "torch.dtype"):
        from sentence_transformers import SentenceTransformer
        from tokenizers import Tokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.device = device
        self.model = SentenceTransformer(
            str(folder), device=device, local_files_only=True, model_kwargs={"dtype": dtype}
        ).eval()
        tokenizer = self.model.tokenizer
        self.pad_id: int = tokenizer.pad_token_id or 0
        self.pads_left = tokenizer.padding_side == "left"
        self.inputs = [name for name in tokenizer.model_input_names if name == "token_type_ids"]
        # A copy: the model's own methods set padding and truncation on theirs.
        self.tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(window_of(folder))

    def tokens(self, texts: pa.Array) -> Ragged:
        """Token ids, texts beyond the model's window cut."""
        return Ragged.of([encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts.to_pylist())])

    def __call__(self, texts: Ragged) -> "torch.Tensor":
        """Pooled vectors, float32, shape (texts, dimension)."""
        import torch

        width = int(texts.lengths.max())
        column = np.arange(width)
        kept = column < texts.lengths[:, None]
        if self.pads_left:
            kept = kept[:, ::-1]
        ids = np.full(kept.shape, self.pad_id, np.int64)
        ids[kept] = texts.values
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": kept.astype(np.int64)}
        features |= {name: np.zeros_like(ids) for name in self.inputs}
        features = {name: torch.from_numpy(value).to(self.device) for name, value in features.items()}
        return self.model(features)["sentence_embedding"].float()
