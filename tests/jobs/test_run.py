import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
from lakevec.jobs import run
from lakevec.jobs.ingest import ingest
from lakevec.jobs.lake.tables import CHUNKS, DOCUMENTS, EMBEDDINGS, VECTORS
from lakevec.jobs.status import status
from lakevec.udfs.embed import embedder
from lakevec.udfs.model import Compute

HANDBOOK = """---
title: Handbook
date: 2023-03-01
---
# Leave

Everyone has thirty days of paid leave a year.

## Carrying over

Up to five days may be carried into the next year, until the end of March.

# Travel

Trains are booked in second class. Flights need the consent of the head of department.

# Expenses

Receipts are handed in within four weeks.
"""


def message(number: int, year: int) -> str:
    return (
        f"From someone@example.org Mon Jan  1 00:00:00 {year}\nMessage-ID: <{number}@example.org>\n"
        f"Date: Mon, 0{number} May {year} 09:00:00 +0000\nSubject: Shipment {number}\n\n"
        f"The shipment with number {number} has left the harbour.\n\n"
    )


def test_documents_become_searchable_with_their_places_and_a_second_run_does_nothing(lakehouse, monkeypatch):
    listings = []
    monkeypatch.setattr(run, "ingest", lambda *given, **named: listings.append(1) or ingest(*given, **named))
    lakehouse.write("handbook.md", HANDBOOK)
    lakehouse.write("list.mbox", message(1, 2021) + message(2, 2022))

    report = lakehouse.run()

    assert (report.files_seen, report.documents, report.quarantined) == (2, 3, 0)
    assert report.chunks == report.embedded == report.loaded == lakehouse.assert_mirrored()
    assert report.embeddings_reused == report.removed == 0
    assert set(report.stages) == {"ingest", "chunk", "embed", "load"}

    hit = lakehouse.search("How many holidays may I take along into the new year?", k=3).hits[0]
    ((text,),) = [row for row in lakehouse.rows(DOCUMENTS, "text") if "paid leave" in row[0]]
    assert hit.heading_path == "Leave > Carrying over"
    assert hit.text == text[hit.start : hit.end]
    assert "five days" in hit.text
    assert (hit.title, hit.uri) == ("Handbook", str(lakehouse.source / "handbook.md"))
    assert hit.doc_timestamp == datetime(2023, 3, 1, tzinfo=UTC)

    limited = lakehouse.search(
        "shipment", since=datetime(2022, 1, 1, tzinfo=UTC), until=datetime(2023, 1, 1, tzinfo=UTC)
    )
    assert [hit.title for hit in limited.hits] == ["Shipment 2"]
    assert limited.partitions_searched == ["2022"]

    # Until a listing differs in nothing.
    assert len(listings) == 2
    again = lakehouse.run()

    assert (again.files_seen, again.documents, again.chunks, again.embedded) == (2, 0, 0, 0)
    assert (again.loaded, again.removed) == (0, 0)
    assert len(listings) == 3


@pytest.mark.slow
def test_an_edit_embeds_its_own_section_alone_and_a_rename_embeds_nothing(lakehouse):
    lakehouse.write("handbook.md", HANDBOOK, modified=1_700_000_000)
    sections = lakehouse.run().chunks

    lakehouse.write("handbook.md", HANDBOOK.replace("four weeks", "six weeks"), modified=1_700_000_001)
    edited = lakehouse.run()
    assert (edited.embedded, edited.loaded, edited.removed) == (1, 1, 1)

    (lakehouse.source / "handbook.md").rename(lakehouse.source / "rules.md")
    renamed = lakehouse.run()
    assert (renamed.embedded, renamed.embeddings_reused) == (0, sections)
    assert lakehouse.assert_mirrored() == sections
    assert {hit.uri.rsplit("/", 1)[1] for hit in lakehouse.search("receipts").hits} == {"rules.md"}


@pytest.mark.slow
def test_a_date_moved_to_another_year_leaves_nothing_behind(lakehouse):
    lakehouse.write("handbook.md", HANDBOOK, modified=1_700_000_000)
    lakehouse.write("other.md", HANDBOOK.replace("Handbook", "Other"), modified=1_700_000_000)
    lakehouse.run()

    lakehouse.write("handbook.md", HANDBOOK.replace("2023-03-01", "1969-07-20"), modified=1_700_000_001)
    report = lakehouse.run()

    assert report.embedded == 0
    rows = lakehouse.assert_mirrored()
    assert {name: part["milvus_rows"] for name, part in status(lakehouse.settings).partitions.items()} == {
        "1969": rows // 2,
        "2023": rows // 2,
    }
    moon = lakehouse.search("leave", until=datetime(1970, 1, 1, tzinfo=UTC))
    assert moon.partitions_searched == ["1969"]
    assert {hit.doc_timestamp for hit in moon.hits} == {datetime(1969, 7, 20, tzinfo=UTC)}


@pytest.mark.slow
def test_a_checkpoint_deleted_after_a_deletion_leaves_no_orphan(lakehouse):
    lakehouse.write("handbook.md", HANDBOOK)
    lakehouse.write("list.mbox", message(1, 2021))
    lakehouse.run()

    (lakehouse.source / "handbook.md").unlink()
    assert lakehouse.run(("ingest",)).deleted == 1
    shutil.rmtree(lakehouse.settings.lake.path + "/_checkpoints")
    report = lakehouse.run()

    assert report.embedded == 0
    assert lakehouse.assert_mirrored() == 1
    assert [hit.title for hit in lakehouse.search("leave").hits] == ["Shipment 1"]


@pytest.mark.slow
def test_a_milvus_that_came_back_empty_fills_itself(lakehouse):
    lakehouse.write("handbook.md", HANDBOOK)
    rows = lakehouse.run().loaded

    lakehouse.empty_milvus()
    report = lakehouse.run()

    assert (report.embedded, report.loaded) == (0, rows)
    assert lakehouse.assert_mirrored() == rows


@pytest.mark.slow
def test_all_documents_gone_empties_the_index(lakehouse):
    lakehouse.write("handbook.md", HANDBOOK)
    rows = lakehouse.run().loaded

    (lakehouse.source / "handbook.md").unlink()
    report = lakehouse.run(allow_deletes=True)

    assert (report.deleted, report.removed) == (1, rows)
    assert lakehouse.assert_mirrored() == 0
    assert lakehouse.search("leave").hits == []


@pytest.mark.slow
def test_equal_passages_are_embedded_once_and_found_twice(lakehouse):
    for name in ("a.md", "b.md"):
        lakehouse.write(name, HANDBOOK)

    report = lakehouse.run()

    assert report.embedded == report.embeddings_reused == report.chunks // 2
    assert len(lakehouse.rows(VECTORS, "content_hash")) == report.embedded
    assert lakehouse.assert_mirrored() == report.chunks


def test_chunks_are_ranges_of_their_documents_and_what_milvus_cannot_hold_is_cut_and_flagged(lakehouse):
    lakehouse.write("long.md", f"---\ntitle: {'é' * 40_000}\n---\n\nShort text.\n")
    lakehouse.write("scripts.md", "# 見出し 🙂\n\nשלום עולם. é̂ 한국어 " * 200)
    lakehouse.write("notes.txt", "Une phrase. " * 500)
    lakehouse.run()

    documents = dict(lakehouse.rows(DOCUMENTS, "doc_id", "text"))
    chunks = lakehouse.rows(CHUNKS, "doc_id", "start", "end", "text", "tokens")

    assert len(chunks) > 5
    assert all(documents[doc_id][start:end] == text for doc_id, start, end, text, _ in chunks)
    assert all(tokens <= 256 for *_, tokens in chunks)
    cut = [(fields, len(title)) for fields, title in lakehouse.rows(EMBEDDINGS, "cut", "title") if fields]
    assert cut == [(["title"], 16_383)]
    assert lakehouse.assert_mirrored() == len(chunks)


@pytest.mark.slow
def test_search_with_a_flat_index_agrees_with_brute_force(lakehouse):
    lakehouse.settings = lakehouse.settings.model_copy(
        update={"index": lakehouse.settings.index.model_copy(update={"type": "FLAT"})}
    )
    words = ["harbour", "leave", "train", "invoice", "winter", "bicycle", "bearing", "meeting", "salary", "password"]
    for number, word in enumerate(words):
        other = words[(number * 3 + 1) % len(words)]
        sections = "\n".join(
            f"## {word} {n}\n\nIn case {n}, the {word} concerns the {other}, number {n * number}.\n" for n in range(12)
        )
        lakehouse.write(f"{word}.md", f"# {word}\n\n{sections}")
    lakehouse.run()
    rows = lakehouse.rows(EMBEDDINGS, "chunk_id", "vector")
    keys, vectors = [key for key, _ in rows], np.array([vector for _, vector in rows], dtype=np.float32)
    queries = [f"{first} and {second}" for first in words for second in words]
    model = lakehouse.lake().model

    embedded = embedder(model, Compute()).embed(queries)
    for query, vector in zip(queries, embedded, strict=True):
        scores = vectors @ vector
        tenth = np.sort(scores)[-10]
        found = {hit.chunk_id for hit in lakehouse.search(query, k=10).hits}
        # Passages at the tenth score, to the precision of a float32 sum, may stand for one another.
        assert len(found) == 10
        assert {keys[i] for i in np.flatnonzero(scores > tenth + 1e-5)} <= found
        assert found <= {keys[i] for i in np.flatnonzero(scores >= tenth - 1e-5)}


@pytest.mark.slow
def test_milvus_lite_holds_the_same_and_follows_changes(lakehouse, tmp_path):
    milvus = lakehouse.settings.milvus.model_copy(update={"uri": str(tmp_path / "milvus.db")})
    lakehouse.settings = lakehouse.settings.model_copy(update={"milvus": milvus})
    lakehouse.write("list.mbox", message(1, 2020) + message(2, 2021) + message(3, 2022), modified=1_700_000_000)
    first = lakehouse.run()

    moved = message(3, 2022).replace("03 May 2022", "03 May 2020")
    lakehouse.write("list.mbox", message(1, 2020) + moved, modified=1_700_000_001)
    second = lakehouse.run()

    assert (first.loaded, first.removed) == (3, 0)
    assert (second.loaded, second.removed) == (1, 2)
    found = lakehouse.search("shipment", until=datetime(2021, 1, 1, tzinfo=UTC))
    assert sorted(hit.title for hit in found.hits) == ["Shipment 1", "Shipment 3"]
    assert found.partitions_searched == ["2020"]
    assert {name: part["state"] for name, part in status(lakehouse.settings).partitions.items()} == {"2020": "equal"}


def test_status_tells_what_waits(lakehouse):
    lakehouse.write("handbook.md", HANDBOOK)
    lakehouse.write("broken.pdf", b"%PDF-1.7 nothing more")
    lakehouse.run(("ingest", "chunk"))
    # What changes no row waits for nobody.
    lakehouse.lake().tables.delta(DOCUMENTS).vacuum()

    waiting = status(lakehouse.settings)

    assert waiting.tables["documents"]["rows"] == 1
    assert waiting.tables["embeddings"]["rows"] == 0
    assert [file["uri"].rsplit("/", 1)[1] for file in waiting.quarantined] == ["broken.pdf"]
    assert waiting.lag_seconds["ingest"] == waiting.lag_seconds["chunk"] == 0
    assert waiting.lag_seconds["embed"] > 0
    assert json.dumps(waiting.lag_seconds)
