import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lakevec.udfs.model import find_model
from lakevec.udfs.tokens import TokenCounter
from lakevec.udfs.wordpiece import WordPiece, is_word_piece
from tokenizers import Tokenizer

FILE = Path(find_model("all-MiniLM-L6-v2").path) / "tokenizer.json"
SETTINGS = json.loads(FILE.read_text())
WORD_PIECE = WordPiece(Tokenizer.from_file(str(FILE)))
COUNTER = TokenCounter(str(FILE.parent))
ADDED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# What the cut into words could get wrong: marks, controls, white space of all kinds, letters that change
# their number when they lose case or accent, special tokens.
PARTS = [*" \t\n\r.,-_[]()'\x00\x0b\x0c\x1c\x7f\x85\xa0\xad", "\u0301", "\u2028", "\u3000", "\ufffd", "\u200b"]
PARTS += ["[CLS]", "[MASK]", "[sep]", "a", "B", "leave", "É", "ß", "İ", "Σ", "ﬁ", "東京", "🇩🇪", "x" * 101, "don't"]


def own(texts, window):
    """As the tokenizer itself does it."""
    tokenizer = Tokenizer.from_file(str(FILE))
    tokenizer.no_padding()
    tokenizer.enable_truncation(window)
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def encode(texts, window, word_piece=WORD_PIECE):
    return word_piece.encode(pa.array(texts, pa.string()), window)


def rows_of(ragged):
    return [part.tolist() for part in np.split(ragged.values, ragged.starts[1:-1])]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PARTS) | st.text(max_size=5)).map("".join), max_size=6), st.integers(3, 30))
def test_ids_are_those_of_the_tokenizer(texts, window):
    ragged = encode(texts, window)
    assert (rows_of(ragged) if texts else []) == own(texts, window)
    assert ragged.values.dtype == np.int32


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PARTS) | st.text(max_size=5)).map("".join), min_size=1, max_size=6), st.data())
def test_places_and_counts_are_those_of_the_tokenizer(parts, data):
    text = "".join(parts)
    ends = np.cumsum([len(part) for part in parts]).tolist()
    ranges = list(zip([0, *ends], ends, strict=False))
    places = COUNTER.places(text, ranges)
    assert places.starts == COUNTER.starts(text, ranges)
    assert places.exact == (not any(token in text for token in ADDED))

    # Of one of the parts, as a passage never leaves its section.
    first, end = data.draw(st.sampled_from(ranges))
    begin = data.draw(st.integers(first, end))
    known = places.count(text, begin, end := data.draw(st.integers(begin, end)))
    assert known is None or known == COUNTER.count(text[begin:end])


def test_a_passage_of_whole_words_is_counted_without_the_tokenizer():
    text = "Days of leave, carried over."
    places = COUNTER.places(text, [(0, len(text))])
    assert [places.count(text, *passage) for passage in ((0, 4), (5, 14), (0, 28))] == [1, 3, 7]
    assert [places.count(text, *passage) for passage in ((1, 4), (5, 12))] == [None, None]


def test_a_special_token_that_a_text_spells_out_is_taken_for_it():
    texts = ["before", "a [MASK] and [CLS]", "after [MASKED]", ""]
    assert rows_of(encode(texts, 256)) == own(texts, 256)
    assert rows_of(encode(texts, 4)) == own(texts, 4)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_slice_of_an_array_is_read_from_its_place(kind):
    texts = ["before", "[MASK] it", "é leave", "", "after"]
    assert rows_of(WORD_PIECE.encode(pa.array(texts, kind)[1:4], 256)) == own(texts[1:4], 256)
    assert len(WORD_PIECE.encode(pa.array(texts, kind)[5:], 256).lengths) == 0


def test_a_word_is_asked_for_once(monkeypatch):
    asked = []

    class Counting:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def encode_batch_fast(self, words, **options):
            asked.extend(words)
            return tokenizer.encode_batch_fast(words, **options)

    tokenizer = Tokenizer.from_file(str(FILE))
    word_piece = WordPiece(Counting())  # pyright: ignore[reportArgumentType]
    long = "unknown" * 10
    encode(["Leave, leave.", "leave " + long], 256, word_piece)
    encode(["leave leave, " + long], 256, word_piece)
    assert sorted(asked) == sorted([",", ".", "Leave", "leave", " leave", f" {long}", f" {long}"])

    monkeypatch.setattr("lakevec.udfs.wordpiece.KEPT_WORDS", 3)
    encode(["one two three four"], 256, word_piece)
    assert set(word_piece.words.known) == {b"one", b" two", b" three", b" four"}


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "BPE"}},
        {"normalizer": None},
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"post_processor": None},
        {"added_tokens": [{"content": "leave", "normalized": True}]},
    ],
)
def test_other_tokenizers_are_left_to_themselves(change):
    assert is_word_piece(SETTINGS, None)
    assert not is_word_piece(SETTINGS | change, None)
    assert not is_word_piece(None, None)


def test_a_tokenizer_whose_configuration_says_otherwise_is_left_to_its_library():
    assert is_word_piece(SETTINGS, {"do_lower_case": True, "strip_accents": None})
    assert not is_word_piece(SETTINGS, {"do_lower_case": False})
