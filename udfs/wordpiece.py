"""Token ids of many texts at a time, and where the tokens of one begin, for tokenizers of BERT's kind.

Such a tokenizer looks at one word at a time, and most words of a corpus were seen before. So all texts are
cut into words at once, by operations on their bytes, and the tokenizer itself is asked about each distinct
word once. On one core that takes a tenth of the time that the tokenizer takes for the texts.
"""

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .ragged import Ragged, places_within

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPACE, WORD, PUNCTUATION = 0, 1, 2

# Longer words are rarely met again, and a store of more words than this is begun anew.
KEPT_BYTES = 32
KEPT_WORDS = 500_000


def byte_classes() -> np.ndarray:
    """What BERT's pre-tokenizer does at a byte of UTF-8; bytes of other characters than ASCII's count as words.

    Control characters count as words as well: the tokenizer drops them without parting what lies around.
    """
    classes = np.full(256, WORD, np.uint8)
    classes[list(b" \t\n\r")] = SPACE
    classes[[code for code in range(33, 127) if not chr(code).isalnum()]] = PUNCTUATION
    return classes


CLASSES = byte_classes()
# Between a word and what is no part of it.
SEPARATORS = frozenset(chr(code) for code in range(128) if CLASSES[code] != WORD)


class KnownWords:
    """What a tokenizer says of words, each of which it is asked about once."""

    def __init__(self, ask: Callable[[list[str]], list[list[int]]]):
        self.ask = ask
        self.known: dict[bytes, list[int]] = {}

    def of(self, words: list[bytes]) -> Ragged:
        """A row of numbers for each word."""
        # Another thread may begin a new store meanwhile; nothing is ever taken out of this one.
        known = self.known
        new = [word for word in words if word not in known]
        found = dict(zip(new, self.ask([word.decode() for word in new]), strict=True))
        rows = [found[word] if word in found else known[word] for word in words]
        if len(known) > KEPT_WORDS:
            known = self.known = {}
        known.update((word, row) for word, row in found.items() if len(word) <= KEPT_BYTES)
        # Quicker than Ragged.of, as the rows are many and short.
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return Ragged(np.fromiter(chain.from_iterable(rows), np.int32, lengths.sum()), lengths)


class WordPiece:
    """The same ids as the tokenizer gives, word by word."""

    def __init__(self, tokenizer: "Tokenizer"):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        self.added = [token.content.encode() for token in tokenizer.get_added_tokens_decoder().values()]
        self.first, self.last = tokenizer.encode("").ids
        self.words = KnownWords(self.ids)

    def encode(self, texts: pa.Array, window: int) -> Ragged:
        """Ids of the texts (strings), special tokens included, at most `window` of each."""
        content, begins = bytes_of(texts)

        words, word_starts = distinct_words(content, begins)
        of_word = self.words.of(words.dictionary.to_pylist()).take(words.indices.to_numpy())

        ends_of_words = np.append(0, np.cumsum(of_word.lengths))
        ends = ends_of_words[np.searchsorted(word_starts, begins)]
        ids = self.with_ends(of_word.values, np.diff(ends), window)
        odd = self.rows_with_added_tokens(content, begins)
        return ids.replaced(odd, [whole(self.tokenizer, texts[row].as_py(), window) for row in odd]) if odd else ids

    def ids(self, words: list[str]) -> list[list[int]]:
        """Ids of each word, special tokens left out."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(words, add_special_tokens=False)]

    def with_ends(self, values: np.ndarray, lengths: np.ndarray, window: int) -> Ragged:
        """Texts cut to the window, with the special tokens around them."""
        kept = np.minimum(lengths, window - 2)
        if (kept < lengths).any():
            values = values[places_within(lengths) < np.repeat(kept, lengths)]
        ends = np.cumsum(kept + 2)
        inner = np.ones(ends[-1] if len(ends) else 0, bool)
        inner[ends - 1] = inner[ends - kept - 2] = False
        ids = np.empty(len(inner), np.int32)
        ids[inner] = values
        ids[ends - kept - 2], ids[ends - 1] = self.first, self.last
        return Ragged(ids, kept + 2)

    def rows_with_added_tokens(self, content: np.ndarray, begins: np.ndarray) -> list[int]:
        """Texts that spell out a token such as [CLS], which the tokenizer takes for it."""
        raw, places = content.tobytes(), []
        for token in self.added:
            place = raw.find(token)
            while place >= 0:
                places.append(place)
                place = raw.find(token, place + 1)
        return np.unique(np.searchsorted(begins, places, side="right") - 1).tolist()


class WordOffsets:
    """Where tokens begin, as the tokenizer gives it, word by word."""

    def __init__(self, tokenizer: "Tokenizer"):
        """tokenizer: one that neither pads nor truncates."""
        self.tokenizer = tokenizer
        self.added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self.words = KnownWords(self.offsets)

    def starts(self, text: str, begins: Sequence[int]) -> array | None:
        """First code point of every token, in ascending order; None for a text that spells out a token such as [CLS].

        begins: where the parts of the text begin that are tokenised by themselves, the first at 0.
        """
        if any(token in text for token in self.added):
            return None
        content = np.frombuffer(text.encode(), np.uint8)
        # Places of code points in bytes, and of bytes in code points.
        is_first = (content & 0xC0) != 0x80
        bytes_at = np.append(np.flatnonzero(is_first), len(content))
        points_at = np.append(0, np.cumsum(is_first))
        words, word_starts = distinct_words(content, bytes_at[np.append(begins, len(text))])
        offsets = self.words.of(words.dictionary.to_pylist()).take(words.indices.to_numpy())
        starts = offsets.values + np.repeat(points_at[word_starts[:-1]], offsets.lengths)
        return array("i", starts.astype(np.int32).tobytes())

    def offsets(self, words: list[str]) -> list[list[int]]:
        """First code point of each token of each word."""
        encodings = self.tokenizer.encode_batch(words, add_special_tokens=False)
        return [[start for start, _ in encoding.offsets] for encoding in encodings]


def is_apart(text: str, place: int) -> bool:
    """Whether no word of the text lies on both sides of a place."""
    return not 0 < place < len(text) or text[place - 1] in SEPARATORS or text[place] in SEPARATORS


def bytes_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts, and where each begins, with the end of the last."""
    written = texts.cast(pa.large_string())
    _, offsets, data = written.buffers()
    begins = np.frombuffer(offsets, np.int64)[written.offset :][: len(texts) + 1] if offsets else np.zeros(1, np.int64)
    content = np.frombuffer(data, np.uint8)[begins[0] : begins[-1]] if data else np.empty(0, np.uint8)
    return content, begins - begins[0]


def distinct_words(content: np.ndarray, begins: np.ndarray) -> tuple[pa.DictionaryArray, np.ndarray]:
    """All words and single marks of punctuation in order, each with the white space before it; and where each begins.

    begins: where each text begins, and the end of the last.
    """
    classes = CLASSES[content]
    is_start = np.empty(len(content) + 1, bool)
    is_start[1:-1] = ((classes[1:] != classes[:-1]) | (classes[1:] == PUNCTUATION)) & (classes[:-1] != SPACE)
    is_start[begins] = True
    starts = np.flatnonzero(is_start)
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.large_binary(), len(starts) - 1, buffers).dictionary_encode(), starts


def whole(tokenizer: "Tokenizer", text: str, window: int) -> list[int]:
    """Ids of a text as the tokenizer itself gives them, cut to the window."""
    ids = tokenizer.encode(text).ids
    return ids if len(ids) <= window else [*ids[: window - 1], ids[-1]]


def is_word_piece(tokenizer: dict[str, Any] | None, config: dict[str, Any] | None) -> bool:
    """Whether a tokenizer works word by word. The contents of tokenizer.json and of tokenizer_config.json."""
    if not tokenizer:
        return False
    normalizer = tokenizer.get("normalizer") or {}
    # The configuration has the last word in the libraries that read both.
    said = config or {}
    agree = all(
        said.get(key, normalizer.get(name)) == normalizer.get(name)
        for key, name in (
            ("do_lower_case", "lowercase"),
            ("strip_accents", "strip_accents"),
            ("tokenize_chinese_chars", "handle_chinese_chars"),
        )
    )
    return (
        agree
        and tokenizer["model"]["type"] == "WordPiece"
        and normalizer.get("type") == "BertNormalizer"
        and (tokenizer.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
        and (tokenizer.get("post_processor") or {}).get("type") in ("TemplateProcessing", "BertProcessing")
        and not any(token["normalized"] for token in tokenizer["added_tokens"])
    )
