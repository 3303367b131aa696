import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.forget import forget
from lakevec.jobs.lake.tables import CHUNKS, DOCUMENTS, EMBEDDINGS, FILES, VECTORS
from lakevec.jobs.progress import Progress
from lakevec.jobs.retry import retry
from lakevec.jobs.status import status
from lakevec.jobs.vectors.server import server_folder

SENTENCE = "Walburga Quistorp was treated for gout in the winter of 1987"
RULES = "# Harbour\n\nThe harbour opens at six in the morning.\n"


def files_with(sentence: str, *folders: str | Path) -> list[str]:
    """Files that hold the sentence: in their bytes, in the pages of a Parquet file, or of one within a binlog."""
    return sorted(
        str(path)
        for folder in folders
        for path in Path(folder).rglob("*")
        if path.is_file() and sentence in decoded(path.read_bytes())
    )


def decoded(data: bytes) -> str:
    """The bytes as text, and behind them every column of the Parquet files that they contain."""
    marks, place = [], data.find(b"PAR1")
    while place >= 0:
        marks.append(place)
        place = data.find(b"PAR1", place + 1)
    tables = [pq.read_table(io.BytesIO(data[a : b + 4])) for a, b in zip(marks[::2], marks[1::2], strict=True)]
    return data.decode(errors="replace") + "".join(str(table.to_pydict()) for table in tables)


def message(number: int, words: str) -> str:
    return (
        f"From a@b Mon Jan  1 00:00:00 2024\nMessage-ID: <{number}@b>\nDate: Tue, 02 Jan 2024 09:00:00 +0000\n"
        f"Subject: No {number}\n\n{words}\n\n"
    )


def erase(lakehouse, name: str):
    return forget(lakehouse.settings, name, Progress(terminal=False))


def restored(lakehouse, path: str) -> dict[str, int]:
    """Documents by file, of those that came back."""
    files = retry(lakehouse.settings, path, Progress(terminal=False), forgotten=True).files
    return {file.uri.rsplit("/", 1)[1]: file.documents for file in files}


# Two minutes of them are the server's: it restarts five times, and collects garbage twice a minute.
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_file_of_lake_or_server_holds_a_forgotten_sentence_and_it_does_not_come_back(lakehouse):
    # The lake's own server: its data folder can be searched, and its log be made anew.
    milvus = lakehouse.settings.milvus.model_copy(update={"uri": "standalone"})
    lakehouse.settings = lakehouse.settings.model_copy(update={"milvus": milvus})
    server = server_folder(lakehouse.settings.lake.path)
    stored = lakehouse.settings.lake.path, server
    secret = f"---\ndate: 2026-01-05\n---\n# {SENTENCE[:40]}\n\n{SENTENCE}. File number 1.\n"
    lakehouse.write("secret.md", secret, modified=1_700_000_000)
    for name in ("rules.md", "more.md", "last.md"):
        lakehouse.write(name, RULES + name)
    lakehouse.run()
    latest = secret.replace("number 1", "number 2")
    lakehouse.write("secret.md", latest, modified=1_700_000_001)
    lakehouse.run()
    assert {"chunks", "documents", "embeddings"} <= {Path(file).parent.name for file in files_with(SENTENCE, *stored)}
    assert files_with(SENTENCE, server / "data" / "rocksmq")
    # The table's log outlives its files.
    logs = [f"{lakehouse.settings.lake.path}/{name}/_delta_log" for name in ("documents", "chunks", "embeddings")]
    assert files_with(SENTENCE[:20], *logs) == []

    report = erase(lakehouse, "secret.md")

    assert report.uri == str(lakehouse.source / "secret.md")
    assert report.rows == {"documents": 1, "chunks": 1, "embeddings": 1, "vectors": 2}
    assert report.files_rewritten > 0
    assert (report.milvus_rows, report.pending, len(report.verified)) == (1, [], 6)
    assert files_with(SENTENCE[:30], *stored) == []

    # Edited, and its bytes under another name.
    lakehouse.write("secret.md", latest + "More.", modified=1_700_000_002)
    lakehouse.write("copy.md", latest)
    again = lakehouse.run()
    assert (again.documents, again.embedded, again.loaded, again.removed) == (0, 0, 0, 0)
    assert sorted(state for (state,) in lakehouse.rows(FILES, "state")) == ["forgotten", "forgotten", *["parsed"] * 3]
    assert {hit.title for hit in lakehouse.search("gout").hits} == {"Harbour"}
    assert {part["state"] for part in status(lakehouse.settings).partitions.values()} == {"equal"}
    assert files_with(SENTENCE[:30], *stored) == []

    with pytest.raises(ConfigurationError, match=r"Nothing was forgotten of a file secret\.\*"):
        restored(lakehouse, "secret.*")
    assert restored(lakehouse, "copy.md") == {"copy.md": 1}
    assert {hit.uri.rsplit("/", 1)[1] for hit in lakehouse.search("gout").hits} >= {"copy.md"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_message_is_forgotten_alone_until_it_is_asked_for_again(lakehouse):
    def title_of_hits():
        return {hit.title for hit in lakehouse.search("What about the crane?").hits}

    said = [message(1, "The crane is red."), message(2, "The crane is blue."), message(3, "The crane is red.")]
    box = lakehouse.write("crane.mbox", "".join(said), modified=1_700_000_000)
    lakehouse.write("copy.mbox", "".join(said), modified=1_700_000_000)
    lakehouse.run()
    vectors = len(lakehouse.rows(VECTORS, "content_hash"))
    parts = {
        (uri.rsplit("/", 1)[1], part): doc for uri, part, doc in lakehouse.rows(DOCUMENTS, "uri", "part", "doc_id")
    }
    with pytest.raises(ConfigurationError, match=r"knows no file and no document crane\.txt"):
        erase(lakehouse, "crane.txt")

    report = erase(lakehouse, parts["crane.mbox", "<2@b>"])

    assert (report.uri, report.documents, report.milvus_rows) == (str(box), 1, 1)
    assert report.rows == {"documents": 1, "chunks": 1, "embeddings": 1, "vectors": 0}
    # The same passage stands in the copy, with the vector that both used.
    assert report.copies == [str(lakehouse.source / "copy.mbox")]
    assert len(lakehouse.rows(VECTORS, "content_hash")) == vectors
    assert len(report.pending) == 1
    assert lakehouse.assert_mirrored() == 5

    lakehouse.write("crane.mbox", "".join([*said, message(4, "The crane is gone.")]), modified=1_700_000_001)
    run = lakehouse.run()
    assert (run.documents, run.loaded, lakehouse.assert_mirrored()) == (1, 1, 6)
    assert parts["crane.mbox", "<2@b>"] not in {doc for (doc,) in lakehouse.rows(EMBEDDINGS, "doc_id")}

    # Again, as after a crash: it is known, and nothing is left to do.
    assert erase(lakehouse, parts["crane.mbox", "<2@b>"]).rows["documents"] == 0

    # Read again for another reason, it stays away.
    lakehouse.write("crane.mbox", "\0", modified=1_700_000_002)
    lakehouse.run(("ingest",))
    lakehouse.write("crane.mbox", "".join([*said, message(4, "The crane is gone.")]), modified=1_700_000_002)
    assert [file.documents for file in retry(lakehouse.settings, "crane.mbox", Progress(terminal=False)).files] == [3]
    assert parts["crane.mbox", "<2@b>"] not in {doc for (doc,) in lakehouse.rows(EMBEDDINGS, "doc_id")}

    with pytest.raises(ConfigurationError, match=r"--path crane\.mbox was forgotten; .* Add --forgotten"):
        retry(lakehouse.settings, "crane.mbox", Progress(terminal=False))

    # Nor does it come with a file that was moved, until one of both is named.
    lakehouse.write("moved.mbox", "".join([*said, message(4, "The crane is gone.")]), modified=1_700_000_003)
    assert (lakehouse.run().documents, lakehouse.assert_mirrored()) == (3, 9)
    assert restored(lakehouse, "crane.mbox") == {"crane.mbox": 4}
    (lakehouse.source / "moved.mbox").unlink()
    lakehouse.run()
    assert lakehouse.assert_mirrored() == len(lakehouse.rows(CHUNKS, "chunk_id")) == 7
    assert title_of_hits() == {"No 1", "No 2", "No 3", "No 4"}
