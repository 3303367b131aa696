"""From texts to unit vectors, with a model that is loaded once per process."""

import ctypes
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from .bert import Bert, is_bert
from .linear import has_int8
from .model import INT8, Compute, Model, model_here
from .ragged import Ragged
from .transformer import Transformer

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# Where nobody says otherwise. On a CPU larger batches leave its caches: in int8, 300 passages of PEPs in two processes
# took 4.1 to 4.9 s with 512, 4.1 to 5.7 with 1,024; one core did 40 a second with 1,024, 32 with 4,096. float32 does
# not mind.
BATCH_TOKENS = {"cpu": 512, "cuda": 131_072, "mps": 4_096}

# So many texts at least, where there are so many, are sorted by length and embedded together; fewer where
# they are long.
WINDOW_ROWS = {"cpu": 2_048, "cuda": 16_384, "mps": 2_048}
WINDOW_BYTES = 32_000_000

# One thread alone does not keep up with a large GPU. Most of the work is done without Python's lock.
TOKENISING_THREADS = 2


class EmbeddingError(Exception):
    """The model gave something that is no vector (the message says for which text), or cannot be computed so."""


@dataclass(frozen=True)
class Tokenised:
    """Texts and their tokens, longest first. order: which text each row of `tokens` is of."""

    texts: pa.Array
    order: np.ndarray
    tokens: Ragged


@dataclass(frozen=True)
class Begun:
    """Texts on their way through the model. order: which text each row of `vectors` is for."""

    texts: pa.Array
    order: np.ndarray
    vectors: "list[torch.Tensor]"


class Embedder:
    """A sentence-transformers model on one device. A batch that its memory does not hold is halved."""

    def __init__(self, model_path: str, compute: Compute):
        import torch

        folder, dtype = Path(model_path), getattr(torch, compute.dtype)
        self.device = compute.device or ("cpu" if compute.dtype == INT8 else best_device())
        device = torch.device(self.device)
        if compute.dtype == INT8 and not (is_bert(folder) and has_int8(device)):
            raise EmbeddingError(
                f"{model_path} cannot be computed in int8 on the device {self.device} of this machine: that needs a "
                "BERT, and an x86 CPU for which torch has oneDNN. Make the lake with model.dtype float32."
            )
        self.batch_tokens = compute.batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["mps"])
        self.window_rows = WINDOW_ROWS.get(device.type, WINDOW_ROWS["mps"])
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(compute.memory_fraction, device.index)
        self.model = (Bert if is_bert(folder) else Transformer)(folder, self.device, dtype)
        self.dimension: int = self.begin(self.tokenise(pa.array(["a"]))).vectors[0].shape[1]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32, shape (len(texts), dimension), in the order of the texts.

        A text that is longer than the model's window is cut. Raises EmbeddingError for NaN or infinity.
        """
        return self.finish(self.begin(self.tokenise(pa.array(texts, pa.large_string()))))

    def tokenise(self, texts: pa.Array) -> Tokenised:
        tokens = self.model.tokens(texts)
        order = np.argsort(-tokens.lengths, kind="stable")
        return Tokenised(texts, order, tokens.take(order))

    def begin(self, given: Tokenised) -> Begun:
        """Set the model to work; on a GPU this returns before it is done."""
        import torch

        with torch.inference_mode():
            # Asked anew for each batch: one that the memory did not hold leaves smaller ones to the rest.
            batches = batches_of(given.tokens.lengths, lambda: self.batch_tokens)
            vectors = [part for first, end in batches for part in self.forward(given.tokens.slice(first, end))]
        return Begun(given.texts, given.order, vectors)

    def finish(self, begun: Begun) -> np.ndarray:
        """The vectors of `embed`."""
        import torch

        vectors = np.empty((len(begun.texts), self.dimension), np.float32)
        if begun.vectors:
            vectors[begun.order] = torch.cat(begun.vectors).cpu().numpy()
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            text = begun.texts[broken[0]].as_py()
            raise EmbeddingError(f"The model gave NaN or infinity for text {broken[0]}: {text[:80]!r}")
        return vectors

    def forward(self, tokens: Ragged) -> "list[torch.Tensor]":
        """Unit vectors of one batch, in as many parts as the memory asks for."""
        import torch

        try:
            return [torch.nn.functional.normalize(self.model(tokens), dim=1)]
        except torch.OutOfMemoryError:
            if len(tokens.lengths) == 1:
                raise
        # Not within `except`, whose traceback holds on to what did not fit.
        torch.cuda.empty_cache()
        self.batch_tokens = min(self.batch_tokens, len(tokens.values) // 2)
        half = len(tokens.lengths) // 2
        return self.forward(tokens.slice(0, half)) + self.forward(tokens.slice(half, len(tokens.lengths)))


def batches_of(lengths: np.ndarray, batch_tokens: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of at most batch_tokens() tokens, padding included. lengths: longest first."""
    first = 0
    while first < len(lengths):
        end = min(first + max(batch_tokens() // int(lengths[first]), 1), len(lengths))
        yield first, end
        first = end


def best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@cache
def embedder(model: Model, compute: Compute) -> Embedder:
    """One model per worker, kept over micro-batches."""
    return Embedder(model_here(model), compute)


def with_vectors(batches: Iterator[pa.RecordBatch], model: Model, compute: Compute) -> Iterator[pa.RecordBatch]:
    """The same rows in their order, with `vector`, a list of float, in place of the string `text`.

    This is the body of mapInArrow. While the model works on one window, the next ones are tokenised, and the
    one after those is read.
    """
    kept = embedder(model, compute)
    with ThreadPoolExecutor(TOKENISING_THREADS) as other_threads:
        tokenised = ahead(
            TOKENISING_THREADS,
            (
                (window, other_threads.submit(kept.tokenise, window.column("text").combine_chunks()))
                for window in windows(batches, kept.window_rows)
            ),
        )
        begun = ahead(1, ((window, kept.begin(tokens.result())) for window, tokens in tokenised))
        for window, given in begun:
            vectors = lists_of(kept.finish(given))
            yield from window.drop_columns("text").append_column("vector", vectors).to_batches()
    give_back_memory()


def give_back_memory() -> None:
    """Let the C library return to the system what was freed.

    glibc keeps it for later, and finds it of little use for tensors of ever other sizes: a process
    grew from 750 to 1,340 MB within 75 s of small micro-batches, and on. With this it stays at 780.
    """
    # Another C library has no such function.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def ahead(number: int, begun: Iterator[T]) -> Iterator[T]:
    """The same items, each handed on when so many after it have been made."""
    waiting: deque[T] = deque()
    for item in begun:
        waiting.append(item)
        if len(waiting) > number:
            yield waiting.popleft()
    yield from waiting


def windows(batches: Iterator[pa.RecordBatch], window_rows: int) -> Iterator[pa.Table]:
    """The batches put together to window_rows rows or WINDOW_BYTES of text, but for the last."""
    window: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        window.append(batch)
        rows += batch.num_rows
        size += batch.column("text").nbytes
        if rows >= window_rows or size >= WINDOW_BYTES:
            yield pa.Table.from_batches(window)
            window, rows, size = [], 0, 0
    if window:
        yield pa.Table.from_batches(window)


def lists_of(vectors: np.ndarray) -> pa.ListArray:
    """Rows of a matrix as a list each, without a copy."""
    rows, dimension = vectors.shape
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * np.int32(dimension), vectors.ravel())
