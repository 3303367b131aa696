import json
import threading
from pathlib import Path

import pytest
from lakevec.jobs.errors import LakevecError
from lakevec.jobs.lake import stream
from lakevec.jobs.lake.listing import occasions
from lakevec.jobs.lake.purge import purge
from lakevec.jobs.lake.stream import (
    StreamEndedError,
    StreamFailedError,
    has_checkpoint,
    next_version,
    nothing_waits,
    run_stream,
    was_cut_off,
    work_off,
)
from lakevec.jobs.lake.tables import CHUNKS, DOCUMENTS
from lakevec.jobs.lake.waiting import waiting_keys
from lakevec.jobs.status import stage_lag
from pyspark.sql import functions as F
from tenacity import wait_none


def test_a_stream_ends_and_goes_on_whatever_its_handler_raises_and_its_checkpoint_lost(spark, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    # What a stream leaves that dies before its first micro-batch is written down.
    (checkpoint / "offsets").mkdir(parents=True)
    seen: list[int] = []

    def run(raised=None):
        def handle(_, number):
            seen.append(number)
            if raised:
                raise raised

        run_stream(occasions(spark), str(checkpoint), handle)

    assert (has_checkpoint(str(checkpoint)), was_cut_off(str(checkpoint))) == (False, True)
    # Not an Exception: nothing would tell the JVM.
    with pytest.raises(SystemExit):
        run(SystemExit())
    assert (has_checkpoint(str(checkpoint)), was_cut_off(str(checkpoint))) == (True, True)

    run()
    assert seen[:2] == [0, 0]
    assert not was_cut_off(str(checkpoint))

    # Without its checksum, which stays.
    last = seen[-1]
    (checkpoint / "commits" / str(last)).unlink()
    assert was_cut_off(str(checkpoint))
    run()
    assert seen.count(last) == 2
    assert not was_cut_off(str(checkpoint))


def test_what_is_deleted_before_the_snapshot_of_a_new_stream_is_looked_for_again(lakehouse):
    for name in ("a", "b"):
        lakehouse.write(f"{name}.txt", "Some text.")
    lakehouse.run(("ingest",))
    tables = lakehouse.lake().tables
    seen: list[set[str]] = []
    handled: list[tuple[int, int]] = []

    def handle(feed, known_until):
        handled.append((known_until, feed.agg(F.max("_commit_version")).first()[0]))

    def begin_anew():
        seen.append({row["uri"].rpartition("/")[2] for row in tables.read(DOCUMENTS).collect()})
        tables.delta(DOCUMENTS).delete("uri like '%b.txt'")

    def work():
        work_off(
            tables,
            DOCUMENTS,
            lakehouse.lake().checkpoint("other"),
            handle,
            begin_anew,
        )

    work()
    assert seen == [{"a.txt", "b.txt"}, {"a.txt"}]
    lakehouse.write("c.txt", "More text.")
    lakehouse.run(("ingest",))
    work()
    assert len(seen) == 2
    # Of a snapshot, and of what came before this stream began, nothing is known to be new.
    assert [known_until >= latest for known_until, latest in handled] == [True, True]


@pytest.mark.slow
def test_a_stream_begins_anew_where_the_deletions_that_it_ended_with_were_vacuumed(lakehouse):
    for name in ("a", "b"):
        lakehouse.write(f"{name}.txt", f"What is said in {name}.")
    lakehouse.run(("ingest", "chunk"))
    tables = lakehouse.lake().tables
    # A DELETE's feed is a deletion vector, which the stream reads when it is begun once more.
    tables.delta(DOCUMENTS).delete(F.col("uri").endswith("a.txt"))
    lakehouse.run(("chunk",))
    purge(tables, DOCUMENTS)
    lakehouse.write("c.txt", "What is said in c.")

    lakehouse.run(("ingest", "chunk"))

    assert [text for (text,) in lakehouse.rows(CHUNKS, "text")] == ["What is said in b.", "What is said in c."]


@pytest.mark.slow
def test_a_stream_goes_on_behind_its_own_deletions_that_were_vacuumed(lakehouse, monkeypatch):
    for name in ("a", "b"):
        lakehouse.write(f"{name}.txt", f"What is said in {name}.")
    lakehouse.run(("ingest", "chunk"))
    (lakehouse.source / "a.txt").unlink()
    lakehouse.run(("ingest", "chunk"), allow_deletes=True)
    purge(lakehouse.lake().tables, DOCUMENTS)
    lakehouse.write("c.txt", "What is said in c.")
    monkeypatch.setattr("lakevec.jobs.chunk.delete_orphans", lambda *_: pytest.fail("it began anew"))

    lakehouse.run(("ingest", "chunk"))

    assert [text for (text,) in lakehouse.rows(CHUNKS, "text")] == ["What is said in b.", "What is said in c."]


@pytest.mark.slow
def test_a_stream_begins_anew_where_the_log_was_cut_behind_it(lakehouse, cut_log):
    for name in ("a", "b"):
        lakehouse.write(f"{name}.txt", f"What is said in {name}.")
    lakehouse.run(("ingest", "chunk"))
    (lakehouse.source / "a.txt").unlink()
    lakehouse.run(("ingest",))
    lakehouse.write("c.txt", "What is said in c.")
    lakehouse.run(("ingest",))
    lake = lakehouse.lake()
    cut_log(lake.tables, DOCUMENTS)

    # Nobody knows any more since when, nor which of its chunks will have to go.
    assert stage_lag(lake, "chunk", DOCUMENTS) is None
    first = next_version(lake.tables, DOCUMENTS, lake.checkpoint("chunk"))
    waiting = waiting_keys(lake.tables, DOCUMENTS, first, CHUNKS)
    assert waiting.count() == 3

    lakehouse.run(("chunk",))

    assert [text for (text,) in lakehouse.rows(CHUNKS, "text")] == ["What is said in b.", "What is said in c."]


def test_a_stage_has_nothing_to_do_only_where_its_checkpoint_ends_with_the_tables_newest_version(lakehouse):
    lakehouse.write("a.txt", "Some text.")
    lakehouse.run(("ingest",))
    lake = lakehouse.lake()
    tables, checkpoint = lake.tables, Path(lake.checkpoint("other"))

    def waits() -> bool:
        return not nothing_waits(tables, DOCUMENTS, str(checkpoint))

    assert waits()
    work_off(tables, DOCUMENTS, str(checkpoint), lambda *_: None, lambda: None)
    version = tables.version(DOCUMENTS)
    assert (waits(), next_version(tables, DOCUMENTS, str(checkpoint))) == (False, version + 1)

    (newest,) = (each for each in (checkpoint / "offsets").iterdir() if each.name.isdigit())
    (checkpoint / "offsets" / f".{newest.name}.crc").unlink()
    *header, offset = newest.read_text().splitlines()
    assert tables.changed_files(DOCUMENTS, version) == 1
    for changed, waits_then, version_then in (
        ({"reservoirVersion": version}, True, version),
        ({"reservoirVersion": version, "index": 0}, False, version + 1),
        # As a run leaves it that ends between two micro-batches of its first snapshot, or of a large version.
        ({"reservoirVersion": version, "index": 0, "isStartingVersion": True}, True, 0),
        ({"reservoirId": "another"}, True, version + 1),
    ):
        newest.write_text("\n".join([*header, json.dumps(json.loads(offset) | changed)]))
        assert (waits(), next_version(tables, DOCUMENTS, str(checkpoint))) == (waits_then, version_then)

    newest.write_text("\n".join([*header, json.dumps(json.loads(offset) | {"reservoirVersion": version, "index": 0})]))
    log = Path(tables.path, DOCUMENTS.name, "_delta_log", f"{version:020}.json")
    (added,) = (line for line in log.read_text().splitlines() if line.startswith('{"add"'))
    log.write_text(f"{log.read_text()}{added}\n")
    assert (waits(), next_version(tables, DOCUMENTS, str(checkpoint))) == (True, version)

    newest.write_text("\n".join([*header, offset]))
    assert not waits()
    (checkpoint / "commits" / newest.name).unlink()
    assert (waits(), next_version(tables, DOCUMENTS, str(checkpoint))) == (True, 0)


def test_rows_are_new_until_their_micro_batch_is_begun_again(lakehouse, monkeypatch):
    lakehouse.lake()
    tables, stopping = lakehouse.lake().tables, threading.Event()
    handled: list[tuple[int, int]] = []
    monkeypatch.setattr(stream, "wait_random_exponential", lambda **_: wait_none())

    def handle(feed, known_until):
        handled.append((known_until, feed.agg(F.max("_commit_version")).first()[0]))
        if len(handled) == 1:
            lakehouse.write("b.txt", "More text.")
            lakehouse.run(("ingest",))
        if len(handled) == 2:
            raise LakevecError("CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND")
        if len(handled) == 3:
            stopping.set()

    lakehouse.write("a.txt", "Some text.")
    lakehouse.run(("ingest",))
    work_off(tables, DOCUMENTS, lakehouse.lake().checkpoint("other"), handle, lambda: None, (stopping, 0.1))

    snapshot, first, again = handled
    assert snapshot[0] >= snapshot[1]
    assert first[0] < first[1]
    assert again[0] >= again[1] == first[1]


def test_a_stream_that_goes_on_ends_between_two_micro_batches_and_leaves_what_its_handler_leaves(spark, tmp_path):
    checkpoint = str(tmp_path / "checkpoint")
    stopping, handled = threading.Event(), []

    def until_stopped(_, number):
        handled.append(number)
        stopping.set()

    run_stream(occasions(spark), checkpoint, until_stopped, (stopping, 0.1))
    # Others may have begun before it ended.
    assert handled == list(range(len(handled)))

    def leave(_, number):
        stopping.set()
        raise StreamEndedError

    stopping.clear()
    run_stream(occasions(spark), checkpoint, leave, (stopping, 0.1))
    assert was_cut_off(checkpoint)


def test_what_is_said_of_a_failed_stream_is_its_cause_and_not_its_stack():
    whole = (
        "[STREAM_FAILED] Query [id = 1] failed\n\tat org.apache\nCaused by: java.io.IOException: No space left\n\tat x"
    )
    error = StreamFailedError("/lake/_checkpoints/chunk", whole)
    assert "java.io.IOException: No space left. What was committed stays" in str(error)
    assert error.whole == whole


def test_a_stream_whose_python_worker_came_too_late_is_begun_again_and_no_other(monkeypatch):
    begun = []
    reasons = iter(
        ["terminated with exception: Python worker failed to connect back. SQLSTATE: XXKST", "no such table"]
    )

    def run(*_):
        begun.append(None)
        raise LakevecError(f"The stream over checkpoint failed: {next(reasons)}")

    monkeypatch.setattr(stream, "run_from_checkpoint", run)
    monkeypatch.setattr(stream, "wait_random_exponential", lambda **_: wait_none())

    with pytest.raises(LakevecError, match="no such table"):
        stream.run_stream(None, "checkpoint", lambda *_: None)
    assert len(begun) == 2
