"""The model's own tokenizer: where tokens begin, and how many an embedded text has."""

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from .model import ModelNotFound, read_json
from .wordpiece import WordOffsets, is_apart, is_word_piece

# Texts are tokenised in pieces of about this many characters, so many at a time: the tokens of a
# 50 MB text are never all held as Python objects.
PIECE = 16_000
PIECES_AT_A_TIME = 64


@dataclass(frozen=True)
class Places:
    """First code point of every token of a text, in ascending order. exact: whether a passage that cuts no word has
    these tokens and no others."""

    starts: array
    exact: bool

    def count(self, text: str, begin: int, end: int) -> int | None:
        """Tokens of text[begin:end]; None where only the tokenizer can tell."""
        if self.exact and is_apart(text, begin) and is_apart(text, end):
            return bisect_left(self.starts, end) - bisect_left(self.starts, begin)
        return None


class TokenCounter:
    """Counts as the embedder will: special tokens included, nothing truncated or padded."""

    def __init__(self, model_path: str):
        # Spark runs a worker per core; threads within each would only contend. Set by hand, it holds.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.tokenizer = load_tokenizer(model_path)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.special_tokens: int = self.tokenizer.num_special_tokens_to_add(False)
        files = (read_json(Path(model_path) / name) for name in ("tokenizer.json", "tokenizer_config.json"))
        self.words = WordOffsets(self.tokenizer) if is_word_piece(*files) else None

    def counts(self, texts: list[str]) -> list[int]:
        """Tokens of each text, special tokens included."""
        return [len(encoding) for encoding in self.tokenizer.encode_batch_fast(texts)]

    def count(self, text: str) -> int:
        """Tokens of one text, special tokens left out."""
        return self.counts([text])[0] - self.special_tokens

    def places(self, text: str, ranges: Sequence[tuple[int, int]]) -> Places:
        """Where the tokens of a text begin. ranges: its parts, in order, each tokenised by itself."""
        starts = self.words.starts(text, [begin for begin, _ in ranges]) if self.words and ranges else None
        return Places(starts, True) if starts is not None else Places(self.starts(text, ranges), False)

    def starts(self, text: str, ranges: Sequence[tuple[int, int]]) -> array:
        """First code point of every token, for any tokenizer.

        Long ranges are tokenised in pieces, cut at white space where there is some. So what stands
        here is exact for tokenizers that never join words, and a close estimate for others.
        """
        starts = array("i")
        waiting = (piece for begin, end in ranges for piece in pieces(text, begin, end))
        while places := list(islice(waiting, PIECES_AT_A_TIME)):
            encodings = self.tokenizer.encode_batch([text[a:b] for a, b in places], add_special_tokens=False)
            for (begin, _), encoding in zip(places, encodings, strict=True):
                starts.extend(begin + start for start, _ in encoding.offsets)
        return starts

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text, of at most so many tokens (special tokens not counted)."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return text if len(encoding) <= tokens else text[: encoding.offsets[tokens][0]].rstrip()


def load_tokenizer(model_path: str):
    """The fast tokenizer of the model at a folder, without importing transformers where that can be spared."""
    from tokenizers import Tokenizer

    file = Path(model_path) / "tokenizer.json"
    if file.is_file():
        return Tokenizer.from_file(str(file))
    from transformers import AutoTokenizer

    backend = getattr(AutoTokenizer.from_pretrained(model_path, local_files_only=True), "backend_tokenizer", None)
    if backend is None:
        raise ModelNotFound(f"{model_path} has no fast tokenizer: tokenizer.json is missing.")
    return backend


def pieces(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Ranges that cover a range, cut after white space where there is some in the last half."""
    while end - begin > PIECE:
        middle, last = begin + PIECE // 2, begin + PIECE
        space = max(text.rfind("\n", middle, last), text.rfind(" ", middle, last))
        cut = space + 1 if space >= 0 else last
        yield begin, cut
        begin = cut
    yield begin, end
