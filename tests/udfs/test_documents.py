from datetime import UTC, datetime

import pyarrow as pa
import pytest
from lakevec.udfs import documents
from lakevec.udfs.documents import SCHEMA, Forgotten, Limits, documents_of, kept_parser
from lakevec.udfs.keys import bytes_hash, doc_id

MODIFIED = datetime(2023, 3, 1, 12, tzinfo=UTC)
LIMITS = Limits(timeout_seconds=60, memory_mb=512)

MARKDOWN = b"---\ntitle: Travel\ndate: 2024-05-17\n---\n# Trains\n\nBook early."
MBOX = b"""\
From a Fri May 17 09:15:00 2024
Subject: One
Message-ID: <1@example.org>

First

From b Sat May 18 09:15:00 2024
Subject: Two
Message-ID: <2@example.org>

Second
"""


@pytest.fixture(scope="module", autouse=True)
def stopped_child():
    yield
    kept_parser(LIMITS).close()


def rows(
    files: dict[str, bytes | OSError],
    limits: Limits = LIMITS,
    known: dict[str, str] | None = None,
    gone: dict[str, list[str]] | None = None,
    forgotten: dict[str, Forgotten] | None = None,
    **sizes: int,
) -> list[dict]:
    """What documents_of makes of these files, all in one batch; each row without its nulls."""

    def read(uri: str) -> bytes:
        content = files[uri]
        if isinstance(content, OSError):
            raise content
        return content

    batch = pa.RecordBatch.from_pylist(
        [
            {
                "uri": uri,
                "size": sizes.get(uri, len(content) if isinstance(content, bytes) else 1),
                "modified_at": MODIFIED,
                "known_hash": (known or {}).get(uri),
                "forgotten": (gone or {}).get(uri),
            }
            for uri, content in files.items()
        ],
        schema=pa.schema(
            [SCHEMA.field(name) for name in ("uri", "size", "modified_at", "forgotten")]
            + [pa.field("known_hash", pa.string())]
        ),
    )
    batches = list(documents_of(iter([batch]), read, limits, forgotten or {}))
    assert all(batch.schema == SCHEMA for batch in batches)
    return [
        {name: value for name, value in row.items() if value is not None}
        for batch in batches
        for row in batch.to_pylist()
    ]


def test_a_file_gives_its_document_and_what_became_of_it():
    assert rows({"docs/travel.md": MARKDOWN}) == [
        {
            "uri": "docs/travel.md",
            "doc_id": doc_id("docs/travel.md", ""),
            "part": "",
            "title": "Travel",
            "titled": True,
            "media_type": "text/markdown",
            "text": "# Trains\n\nBook early.",
            "headings": [{"start": 0, "end": 8, "level": 1, "text": "Trains"}],
            "pages": [],
            "doc_timestamp": datetime(2024, 5, 17, tzinfo=UTC),
            "doc_timestamp_origin": "front matter",
        },
        {
            "uri": "docs/travel.md",
            "size": len(MARKDOWN),
            "modified_at": MODIFIED,
            "state": "parsed",
            "hash": bytes_hash(MARKDOWN),
            "documents": 1,
        },
    ]


def test_a_file_of_messages_gives_a_document_for_each():
    [one, two, outcome] = rows({"a.mbox": MBOX})
    assert [one["part"], two["part"]] == ["<1@example.org>", "<2@example.org>"]
    assert [one["doc_id"], two["doc_id"]] == [doc_id("a.mbox", one["part"]), doc_id("a.mbox", two["part"])]
    assert (outcome["state"], outcome["documents"]) == ("parsed", 2)


def test_a_document_without_a_title_shows_its_files_name_and_is_not_titled():
    [document, _] = rows({"s3/folder/2021-04 notes.txt": b"Just text."})
    assert (document["title"], document["titled"]) == ("2021-04 notes.txt", False)
    assert (document["doc_timestamp"], document["doc_timestamp_origin"]) == (
        datetime(2021, 4, 1, tzinfo=UTC),
        "file name",
    )


def test_a_day_of_an_unpacked_slack_export_knows_its_channel_by_its_folder():
    data = b'[{"type": "message", "user": "U1", "ts": "1715937300.0001", "text": "Hello"}]'
    [document, _] = rows({"s3/export/general/2024-05-17.json": data})
    assert (document["title"], document["part"]) == ("#general, 2024-05-17", "")


def test_one_failing_file_costs_only_itself():
    found = rows({"a.txt": b"One.", "b.png": b"\x89PNG\x00\x00\x00\x01\xff", "c.pdf": b"no pdf", "d.txt": b"Two."})
    assert [row["text"] for row in found if "text" in row] == ["One.", "Two."]
    assert {row["uri"]: row["state"] for row in found if "state" in row} == {
        "a.txt": "parsed",
        "b.png": "quarantined",
        "c.pdf": "quarantined",
        "d.txt": "parsed",
    }
    assert [row for row in found if row["uri"] == "c.pdf"] == [
        {
            "uri": "c.pdf",
            "size": 6,
            "modified_at": MODIFIED,
            "state": "quarantined",
            "hash": bytes_hash(b"no pdf"),
            "error_stage": "parse",
            "error_class": "ParseError",
            "error_message": "it is named .pdf, but has no PDF header",
        }
    ]


def test_equal_bytes_are_not_parsed_again():
    [outcome] = rows({"a.md": MARKDOWN}, known={"a.md": bytes_hash(MARKDOWN)})
    assert (outcome["state"], outcome["hash"]) == ("touched", bytes_hash(MARKDOWN))


def test_a_file_that_went_since_it_was_listed_has_vanished():
    assert rows({"a.md": FileNotFoundError("a.md")}) == [
        {"uri": "a.md", "size": 1, "modified_at": MODIFIED, "state": "vanished"}
    ]


def test_a_file_that_cannot_be_read_is_quarantined():
    [outcome] = rows({"a.md": PermissionError("not for \udc80 you\x00")})
    assert (outcome["state"], outcome["error_stage"], outcome["error_class"], outcome["error_message"]) == (
        "quarantined",
        "read",
        "PermissionError",
        "not for \ufffd you",
    )


@pytest.mark.parametrize(
    ("memory_mb", "most"), [(256, "parse.memory_mb = 256 can hold"), (3_072, "the 512 MB that are read")]
)
def test_a_file_larger_than_memory_or_than_any_that_is_read_is_never_read(memory_mb, most):
    [outcome] = rows({"a.txt": OSError("read all the same")}, Limits(60, memory_mb), **{"a.txt": 600 * 2**20})
    assert (outcome["error_stage"], outcome["error_class"], outcome["error_message"]) == (
        "read",
        "FileTooLarge",
        f"600 MB are more than {most}; split the file",
    )


def test_large_texts_are_handed_on_in_several_batches(monkeypatch):
    monkeypatch.setattr(documents, "CHARACTERS_PER_BATCH", 10)
    batch = pa.RecordBatch.from_pylist(
        [{"uri": "a.mbox", "size": len(MBOX), "modified_at": MODIFIED, "known_hash": None, "forgotten": None}]
    )
    batches = list(documents_of(iter([batch]), lambda uri: MBOX, LIMITS, {}))
    assert [batch.column("part").to_pylist() for batch in batches] == [["<1@example.org>"], ["<2@example.org>"], [None]]


def test_what_was_forgotten_of_a_file_stays_away_when_the_file_changes_or_is_copied():
    first, second = doc_id("a.mbox", "<1@example.org>"), doc_id("a.mbox", "<2@example.org>")
    longer = MBOX + b"\nFrom c Sun May 19 09:15:00 2024\nSubject: Three\nMessage-ID: <3@example.org>\n\nThird\n"

    *kept, outcome = rows({"a.mbox": longer}, gone={"a.mbox": [first]})
    assert [row["title"] for row in kept] == ["Two", "Three"]
    assert (outcome["state"], outcome["documents"], outcome["forgotten"]) == ("parsed", 2, [first])

    erased = {bytes_hash(MBOX): (Forgotten("a.mbox", (second,)),)}
    *kept, outcome = rows({"copy.mbox": MBOX}, forgotten=erased)
    assert [row["title"] for row in kept] == ["One"]
    assert outcome["forgotten"] == [doc_id("copy.mbox", "<2@example.org>")]


def test_a_copy_of_a_forgotten_file_is_not_parsed():
    erased = {bytes_hash(MARKDOWN): (Forgotten("travel.md", None),)}
    [outcome] = rows({"copy.md": MARKDOWN}, forgotten=erased)
    assert (outcome["state"], outcome["hash"]) == ("forgotten", bytes_hash(MARKDOWN))
