import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pydoc_data.topics import topics

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lakevec.udfs import keys
from lakevec.udfs.chunk import (
    SCHEMA,
    Chunk,
    Chunking,
    ChunkingError,
    Splitter,
    check_chunking,
    chunks_of,
    kept_splitter,
)
from lakevec.udfs.cuts import CLUSTER
from lakevec.udfs.model import find_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

MODEL = find_model("all-MiniLM-L6-v2")
CHUNKINGS = [
    Chunking(strategy, tokens, overlap)
    for strategy in ("heading", "recursive", "fixed")
    for tokens, overlap in ((256, 32), (64, 0), (48, 24))
]
PATIENT = settings(deadline=None, max_examples=60)


def markdown_headings(text: str) -> list[dict]:
    return [
        {"start": line.start(), "end": line.end(), "level": len(line[1]), "text": line[2]}
        for line in re.finditer(r"^(#{1,4}) (.+)$", text, re.MULTILINE)
    ]


def split(text: str, chunking: Chunking, headings: list[dict] | None = None, title: str = "") -> list[Chunk]:
    headings = markdown_headings(text) if headings is None else headings
    return kept_splitter(MODEL, chunking).split("doc", text, headings, [], title)


def manual(names: list[str]) -> str:
    """Real prose and code: chapters of the Python manual, each under headings of its own."""
    return "\n\n".join(f"{'#' * (1 + number % 3)} On {name}\n\n{topics[name]}" for number, name in enumerate(names))


MANUAL = manual(sorted(topics)[:45])


def counted(texts: list[str], model: str = MODEL.path) -> list[int]:
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]


def assert_sound(text: str, headings: list[dict], chunks: list[Chunk], chunking: Chunking, model: str = MODEL.path):
    """What holds for every text, strategy and overlap."""
    assert [chunk.text for chunk in chunks] == [text[chunk.start : chunk.end] for chunk in chunks]
    covered = bytearray(len(text))
    for chunk in chunks:
        covered[chunk.start : chunk.end] = b"\1" * (chunk.end - chunk.start)
    assert [text[i] for i in range(len(text)) if not covered[i] and not text[i].isspace()] == []
    assert [chunk.text for chunk in chunks if chunk.text != chunk.text.strip()] == []
    assert all(a.start < b.start and a.end < b.end for a, b in pairwise(chunks))

    sizes = counted([chunk.prefix + chunk.text for chunk in chunks], model)
    assert [chunk.tokens for chunk in chunks] == sizes
    assert max(sizes, default=0) <= chunking.tokens
    if chunking.strategy == "heading":
        starts = {heading["start"] for heading in headings}
        assert [c for c in chunks if starts & set(range(c.start + 1, c.end))] == []
    if chunking.overlap == 0:
        assert all(a.end <= b.start for a, b in pairwise(chunks))

    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.content_hash for chunk in chunks] == [keys.content_hash(c.prefix + c.text) for c in chunks]
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)


@pytest.mark.parametrize("chunking", CHUNKINGS, ids=lambda chunking: chunking.id)
def test_passages_of_a_manual_are_exact_ranges_that_cover_it_and_fit_the_window(chunking):
    chunks = split(MANUAL, chunking, title="The manual")
    assert len(chunks) > 250
    assert_sound(MANUAL, markdown_headings(MANUAL), chunks, chunking)


WORDS = st.sampled_from(
    [
        "# One\n",
        "## Two\n",
        "### One > two\n",
        "word ",
        "Sentence one. ",
        "\n\n",
        "\n",
        " ",
        "\t",
        "- item\n",
        "`code()`; ",
        "東京は日本の首都です。",
        "ภาษาไทยไม่มีช่องว่าง",
        "שלום עולם ",
        "مرحبا بالعالم ",
        "e\u0301\u0323",
        "n\u0303o ",
        "नमस्ते ",
        "👩‍👩‍👧‍👦",
        "🇩🇪🇫🇷",
        "👍🏽",
        "\u200b",
        "\u00ad",
        "\ufdfa",
        "한글 ",
        "aGVsbG8gd29ybGQ" * 9,
        "x" * 130,
        "\r\n",
        "é",
        "ß",
    ]
)


@PATIENT
@given(
    text=st.lists(WORDS | st.text(max_size=3), max_size=60).map("".join),
    chunking=st.sampled_from([*CHUNKINGS, Chunking("heading", 16, 8), Chunking("fixed", 16, 5)]),
    title=st.sampled_from(["", "One", "A title 題名", "very long title " * 40]),
)
def test_any_text_of_any_script_is_split_soundly(text, chunking, title):
    headings = markdown_headings(text)
    assert_sound(text, headings, split(text, chunking, headings, title), chunking)


@pytest.fixture(scope="module")
def byte_level_model(tmp_path_factory) -> str:
    """A tokenizer of the other family: bytes, merges over white space, other special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([MANUAL[:100_000]], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s> </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    folder = tmp_path_factory.mktemp("byte-level")
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


@pytest.mark.parametrize("strategy", ["heading", "fixed"])
def test_the_window_holds_for_a_tokenizer_of_another_family(byte_level_model, strategy):
    text = MANUAL[:60_000] + "\n\n日本語のテキスト。" * 50 + "x" * 5_000
    chunking = Chunking(strategy, 96, 16)
    headings = markdown_headings(text)
    chunks = Splitter(byte_level_model, chunking).split("doc", text, headings, [], "The manual")
    assert_sound(text, headings, chunks, chunking, byte_level_model)


def test_a_passage_carries_its_headings_and_embeds_those_that_its_text_does_not_show():
    text = "Preamble\n\n# Leave\n\nAll staff.\n\n## Parental\n\nTwelve weeks."
    chunks = split(text, Chunking("heading", 64, 8), title="Handbook")
    assert [(c.prefix, c.text, c.heading_path) for c in chunks] == [
        ("Handbook\n\n", "Preamble", ""),
        ("Handbook\n\n", "# Leave\n\nAll staff.", "Leave"),
        ("Handbook > Leave\n\n", "## Parental\n\nTwelve weeks.", "Leave > Parental"),
    ]


def test_the_rest_of_a_long_section_embeds_its_own_heading_too():
    text = "# Leave\n\n## Parental\n\n" + "Parents have twelve weeks. " * 8
    *_, last = split(text, Chunking("heading", 40, 0), title="Handbook")
    assert (last.prefix, last.heading_path) == ("Handbook > Leave > Parental\n\n", "Leave > Parental")


def test_a_title_that_is_also_the_first_heading_is_embedded_once():
    chunks = split("# Leave\n\nAll staff.\n\n## Parental\n\nTwelve weeks.", Chunking("heading", 64, 8), title="Leave")
    assert [chunk.prefix for chunk in chunks] == ["", "Leave\n\n"]


def test_a_deeper_heading_ends_with_the_next_one_of_its_level_or_above():
    text = "# A\n\na\n\n### B\n\nb\n\n## C\n\nc\n\n# D\n\nd"
    assert [chunk.heading_path for chunk in split(text, Chunking("heading", 64, 0))] == ["A", "A > B", "A > C", "D"]


def test_a_heading_without_a_body_is_a_passage_of_its_own():
    chunks = split("# A\n\n## B\n\nbody", Chunking("heading", 64, 0))
    assert [chunk.text for chunk in chunks] == ["# A", "## B\n\nbody"]


def test_other_strategies_may_cross_headings_and_say_under_which_a_passage_begins():
    text = "# A\n\none\n\n# B\n\ntwo"
    for strategy in ("recursive", "fixed"):
        (chunk,) = split(text, Chunking(strategy, 64, 0), title="T")
        assert (chunk.text, chunk.prefix, chunk.heading_path) == (text, "T\n\n", "A")


def test_a_prefix_takes_a_third_of_the_room_and_loses_its_outermost_parts_first():
    text = f"# {'outer ' * 20}\n\n## inner\n\n" + "word " * 100
    prefixes = {chunk.prefix for chunk in split(text, Chunking("heading", 48, 0), title="title " * 30)}
    assert "inner\n\n" in prefixes
    assert max(counted(list(prefixes))) - 2 <= 16
    assert any(re.fullmatch(r"(title ){5,}title\n\n", prefix) for prefix in prefixes)


def test_paragraphs_stay_whole_where_they_fit_then_sentences_then_words():
    first, second = "One two three. " * 4, "Four five six. " * 4
    chunks = split(f"{first}\n\n{second}", Chunking("recursive", 24, 0))
    assert [chunk.text for chunk in chunks] == [first.strip(), second.strip()]
    chunks = split("One two three four five six. " * 4, Chunking("recursive", 24, 0))
    assert [chunk.text[-1] for chunk in chunks] == ["."] * len(chunks)
    chunks = split("alpha beta gamma delta " * 20, Chunking("recursive", 24, 0))
    assert {word for chunk in chunks for word in chunk.text.split()} == {"alpha", "beta", "gamma", "delta"}


def test_fixed_windows_are_full_and_share_the_overlap():
    text = " ".join(f"w{number:03}" for number in range(300))
    chunks = split(text, Chunking("fixed", 64, 16))
    assert all(chunk.tokens > 55 for chunk in chunks[:-1])
    assert all(8 <= counted([text[b.start : a.end]])[0] - 2 <= 16 for a, b in pairwise(chunks))


def test_letters_with_marks_flags_and_joined_emoji_are_never_cut():
    text = "".join(["e\u0301\u0323", "🇩🇪", "👩‍👩‍👧‍👦", "ก็", "한"] * 300)
    boundaries = {0} | {cluster.end() for cluster in CLUSTER.finditer(text)}
    for chunking in (Chunking("heading", 32, 8), Chunking("fixed", 32, 8)):
        chunks = split(text, chunking)
        assert len(chunks) > 3
        assert {place for chunk in chunks for place in (chunk.start, chunk.end)} <= boundaries


@pytest.mark.parametrize(
    "text", ["QUJDREVG+hjkl0123" * 20_000, "a" * 300_000, "\u200b" * 50_000, "e" + "\u0301" * 50_000]
)
def test_a_long_text_without_any_break_is_split_all_the_same(text):
    chunking = Chunking("heading", 256, 32)
    chunks = split(text, chunking)
    assert_sound(text, [], chunks, chunking)
    assert max(len(chunk.text) for chunk in chunks) <= 2_048


def test_a_text_of_white_space_has_no_passages():
    assert split(" \n\n\t " * 100, Chunking("heading", 64, 8)) == []
    assert split("", Chunking("fixed", 64, 8)) == []


@pytest.mark.parametrize("overlap", [0, 32])
def test_an_edit_changes_the_keys_of_its_own_section_only(overlap):
    chunking = Chunking("heading", 128, overlap)
    names = sorted(topics)[:30]
    before = split(manual(names), chunking)
    heading = f"On {names[7]}"
    edited = manual(names).replace(f"{heading}\n\n", f"{heading}\n\nA new sentence. " + "aGVsbG8" * 4_000 + " ", 1)
    after = split(edited, chunking)

    def elsewhere(chunks):
        return [chunk.chunk_id for chunk in chunks if chunk.heading_path.split(" > ")[-1] != heading]

    assert elsewhere(after) == elsewhere(before)
    assert {chunk.chunk_id for chunk in after} != {chunk.chunk_id for chunk in before}


def test_an_edit_leaves_the_fixed_windows_before_it_alone():
    chunking = Chunking("fixed", 128, 32)
    place = len(MANUAL) // 2
    before, after = (split(text, chunking) for text in (MANUAL, MANUAL[:place] + " new words " + MANUAL[place:]))
    untouched = [chunk for chunk in before if chunk.end < place]
    assert after[: len(untouched)] == untouched


def test_equal_passages_of_a_document_have_keys_of_their_own_and_one_content_hash():
    text = "# A\n\nsame\n\n# A\n\nsame"
    first, second = split(text, Chunking("heading", 64, 0))
    assert first.content_hash == second.content_hash
    assert [first.chunk_id, second.chunk_id] == [
        keys.chunk_id("doc", "heading-64-0", first.content_hash, occurrence) for occurrence in (0, 1)
    ]


def test_a_passage_names_the_pages_on_which_it_begins_and_ends():
    pages = [
        {"start": 0, "end": 10, "number": 1},
        {"start": 10, "end": 10, "number": 2},
        {"start": 10, "end": 99, "number": 3},
    ]
    headings = [{"start": 7, "end": 9, "level": 1, "text": "B"}, {"start": 20, "end": 21, "level": 1, "text": "C"}]
    chunks = kept_splitter(MODEL, Chunking("heading", 64, 0)).split(
        "doc", "aaaa a B bb bbb bbb C cc", headings, pages, ""
    )
    assert [(chunk.page, chunk.last_page) for chunk in chunks] == [(1, 1), (1, 3), (3, 3)]


def test_a_chunking_is_known_by_its_id():
    assert Chunking("heading", 256, 32).id == "heading-256-32"
    assert Chunking.from_id("recursive-128-0") == Chunking("recursive", 128, 0)


@pytest.mark.parametrize(
    ("chunking", "message"),
    [
        (Chunking("heading", 384, 32), "chunk.tokens is 384, but the model reads 256 tokens"),
        (Chunking("heading", 8, 0), "chunk.tokens is 8; 16 is the least"),
        (Chunking("heading", 64, 33), "chunk.overlap is 33; with chunk.tokens 64 it may be 0 to 32"),
        (Chunking("semantic", 64, 0), "chunk.strategy is semantic; known: heading, recursive, fixed"),
    ],
)
def test_what_the_model_cannot_read_is_refused(chunking, message):
    with pytest.raises(ChunkingError, match=message):
        check_chunking(chunking, 256)
    check_chunking(Chunking("heading", 256, 128), 256)


DOCUMENT = {
    "doc_id": "doc",
    "uri": "file:/a.md",
    "title": "a.md",
    "titled": False,
    "doc_timestamp": datetime(1958, 4, 1, 12, 30, 0, 5, tzinfo=UTC),
    "text": "Hello there",
    "headings": [],
    "pages": None,
}


def rows_of(documents: list[dict], chunking: Chunking) -> list[dict]:
    batches = [pa.RecordBatch.from_pylist([document]) for document in documents]
    return [row for batch in chunks_of(iter(batches), MODEL, chunking) for row in batch.to_pylist()]


def test_rows_of_documents_become_rows_of_chunks():
    content = keys.content_hash("Hello there")
    assert rows_of([DOCUMENT], Chunking("heading", 64, 8)) == [
        {
            "chunk_id": keys.chunk_id("doc", "heading-64-8", content, 0),
            "doc_id": "doc",
            "ordinal": 0,
            "start": 0,
            "end": 11,
            "text": "Hello there",
            # A title that is only the file's name is not embedded.
            "prefix": "",
            "content_hash": content,
            "tokens": 4,
            "heading_path": "",
            "page": None,
            "last_page": None,
            "uri": "file:/a.md",
            "title": "a.md",
            "doc_timestamp": DOCUMENT["doc_timestamp"],
        }
    ]


def test_a_title_of_the_documents_own_is_embedded():
    (row,) = rows_of([DOCUMENT | {"title": "Greetings", "titled": True}], Chunking("heading", 64, 8))
    assert (row["prefix"], row["title"]) == ("Greetings\n\n", "Greetings")


def test_rows_come_in_bounded_batches():
    documents = [DOCUMENT | {"doc_id": str(number), "text": MANUAL[:60_000]} for number in range(4)]
    batch = pa.RecordBatch.from_pylist(documents)
    sizes = [rows.num_rows for rows in chunks_of(iter([batch]), MODEL, Chunking("fixed", 32, 0))]
    assert len(sizes) > 1
    assert max(sizes) == 2_000


def test_a_machine_that_keeps_the_model_elsewhere_splits_with_its_own():
    model = replace(MODEL, path="/home/driver/model")
    batch = pa.RecordBatch.from_pylist([DOCUMENT])
    (rows,) = chunks_of(iter([batch]), model, Chunking("heading", 64, 8))
    assert rows["text"].to_pylist() == ["Hello there"]


def test_the_columns_are_those_of_the_table():
    from lakevec.jobs.lake.tables import CHUNKS

    assert SCHEMA.names == CHUNKS.schema.names
