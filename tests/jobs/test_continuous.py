import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lakevec.jobs import ingest as ingesting
from lakevec.jobs.chunk import Chunked
from lakevec.jobs.continuous import ended_by_signals, kept_up, may_pass, run_continuous
from lakevec.jobs.errors import ConfigurationError, MilvusError, SourceError
from lakevec.jobs.flow import COMES_WITHIN, Flow, Turns
from lakevec.jobs.forget import forget
from lakevec.jobs.guard import Guard
from lakevec.jobs.ingest import ingest
from lakevec.jobs.lake.lock import STAGES
from lakevec.jobs.lake.tables import DOCUMENTS
from lakevec.jobs.progress import Progress
from lakevec.jobs.rebuild import rebuild
from lakevec.jobs.retry import retry
from lakevec.jobs.run import RunReport
from lakevec.jobs.settings import Pipeline
from lakevec.jobs.status import status
from lakevec.jobs.vectors.connection import MilvusAddress, connect
from lakevec.jobs.vectors.search import partition_counts
from lakevec.jobs.verify import verify
from pymilvus import MilvusException


@pytest.fixture
def running(lakehouse, tmp_path):
    """`lakevec run --continuous` on this test's lake, as a process of its own."""
    command = [sys.executable, "-m", "lakevec.jobs.cli", *lakehouse.options, "--json", "run", "--continuous"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        yield process
        process.kill()
        process.wait()


def wait_until(condition, process, log, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def test_a_short_continuous_run_and_the_commands_that_are_given_after_it(lakehouse):
    """Each once, on one small lake, in this process: what they do in full, slow tests show."""
    for name in ("first.txt", "second.txt"):
        lakehouse.write(name, f"The lighthouse of {name} was built of granite.")
    broken = lakehouse.write("broken.pdf", b"%PDF-1.7 nothing more")
    client = connect(MilvusAddress(lakehouse.settings.milvus.uri))

    has_ended = threading.Event()

    def end_it() -> None:
        deadline = time.monotonic() + 120
        try:
            while time.monotonic() < deadline and not has_ended.wait(0.2):
                if sum(partition_counts(client, lakehouse.settings.milvus.collection).values()) == 2:
                    break
        finally:
            # Afterwards nobody would take it for the end of a run.
            if not has_ended.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(end_it)
        try:
            ran = run_continuous(lakehouse.settings, progress=Progress(terminal=False))
        finally:
            has_ended.set()
        ending.result()

    assert (ran.documents, ran.quarantined, ran.loaded, ran.freshness.documents) == (2, 1, 2, 2)
    assert rebuild(lakehouse.settings).rows == 2
    (again,) = retry(lakehouse.settings, "*.pdf", Progress(terminal=False)).files
    assert (again.uri, again.state, again.attempts) == (str(broken), "quarantined", 2)
    gone = forget(lakehouse.settings, "first.txt", Progress(terminal=False))
    assert (gone.rows["documents"], gone.milvus_rows) == (1, 1)
    whole = verify(lakehouse.settings)
    assert (whole.current, whole.sampled) == (True, 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_continuous_run_follows_the_source_until_it_is_told_to_end(lakehouse, running, tmp_path):
    log = tmp_path / "log"
    for number in range(25):
        lakehouse.write(f"{number}.txt", f"The lighthouse number {number} was built of granite.")

    def found():
        try:
            return {hit.uri.rsplit("/", 1)[1] for hit in lakehouse.search("lighthouse", k=100).hits}
        except MilvusError:
            return set()

    wait_until(lambda: len(found()) == 25, running, log)
    lakehouse.write("new.txt", "The new lighthouse is made of steel.")
    wait_until(lambda: "new.txt" in found(), running, log)
    (lakehouse.source / "0.txt").unlink()
    wait_until(lambda: "0.txt" not in found(), running, log)

    # A source that lost most of its files: they stay, and what is new arrives all the same.
    for number in range(1, 20):
        (lakehouse.source / f"{number}.txt").rename(tmp_path / f"{number}.txt")
    lakehouse.write("newer.txt", "A newer lighthouse is painted red.")
    wait_until(lambda: "newer.txt" in found(), running, log)
    wait_until(lambda: "deletions.held_back files=19" in log.read_text(), running, log)
    assert len(found()) == 26

    running.send_signal(signal.SIGTERM)
    answer, _ = running.communicate(timeout=120)
    assert running.returncode == 0, log.read_text()
    report = json.loads(answer)
    assert (report["documents"], report["deleted"], report["stages"]["ingest"]["held_back"]) == (27, 1, 19)
    # Neither what is held back nor what waits for room is a change as often as it is listed.
    assert report["stages"]["ingest"]["changes"] == 28
    assert report["freshness"]["documents"] == 27
    assert 0 < report["freshness"]["p50"] <= report["freshness"]["p95"] <= report["freshness"]["slowest"] < 600
    assert "failed" not in log.read_text()

    after = status(lakehouse.settings)
    assert "19 of 26 known files are gone" in after.held_back
    assert after.freshness.documents == 27
    assert lakehouse.run(allow_deletes=True).deleted == 19
    assert lakehouse.assert_mirrored() == 7


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_stages_that_go_on_in_processes_of_their_own_follow_one_another(lakehouse, tmp_path):
    """As on clusters of their own: nobody tells a stage of the others' work but the tables."""
    lakehouse.write("old.txt", "The lighthouse was built of granite.")
    lakehouse.run()
    command = [sys.executable, "-m", "lakevec.jobs.cli", *lakehouse.options, "--json"]
    logs = {stage: tmp_path / f"{stage}.log" for stage in STAGES}
    running = {
        stage: subprocess.Popen(
            [*command, stage, "--continuous"], stdout=subprocess.PIPE, stderr=logs[stage].open("w"), text=True
        )
        for stage in STAGES
    }

    def found():
        return {hit.uri.rsplit("/", 1)[1] for hit in lakehouse.search("lighthouse", k=100).hits}

    try:
        lakehouse.write("new.txt", "The new lighthouse is made of steel.")
        wait_until(lambda: "new.txt" in found(), running["load"], logs["load"])
        (lakehouse.source / "old.txt").unlink()
        wait_until(lambda: "old.txt" not in found(), running["load"], logs["load"])
        for each in running.values():
            each.send_signal(signal.SIGTERM)
        answers = {stage: json.loads(each.communicate(timeout=120)[0]) for stage, each in running.items()}
    finally:
        for each in running.values():
            each.kill()
            each.wait()

    assert {each.returncode for each in running.values()} == {0}
    assert (answers["ingest"]["documents"], answers["ingest"]["deleted"]) == (1, 1)
    assert (answers["chunk"]["chunks"], answers["embed"]["embedded"]) == (1, 1)
    assert (answers["load"]["loaded"], answers["load"]["removed"]) == (1, 1)
    assert verify(lakehouse.settings).current


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_what_changes_while_runs_go_on_and_one_is_killed_is_mirrored_exactly(lakehouse, tmp_path):
    """Files are added, edited, renamed, touched, restored and deleted at random; the first of two runs is killed."""
    chance = random.Random(7)
    texts: dict[str, str] = {}
    command = [sys.executable, "-m", "lakevec.jobs.cli", *lakehouse.options, "run", "--continuous", "--allow-deletes"]

    def text() -> str:
        # Passages that several documents have, and some that were there before.
        words = [chance.choice(["granite", "lamp", "keeper", "storm", "harbour"]) for _ in range(3)]
        return "\n\n".join(
            f"# Part {word}\n\nThe {word} of the lighthouse, year {chance.randint(1, 4)}." for word in words
        )

    def change(number: int) -> None:
        name = chance.choice(sorted(texts)) if texts and chance.random() < 0.7 else f"{number}.md"
        what = chance.choice(["write", "write", "rename", "touch", "delete"]) if name in texts else "write"
        path = lakehouse.source / name
        if what == "write":
            texts[name] = text()
            lakehouse.write(name, texts[name])
        elif what == "rename":
            path.rename(path.with_name(f"{number}-renamed.md"))
            texts[f"{number}-renamed.md"] = texts.pop(name)
        elif what == "touch":
            path.touch()
        else:
            path.unlink()
            del texts[name]

    numbers = iter(range(1_000))
    for is_killed in (True, False):
        with (tmp_path / "log").open("a") as log:
            process = subprocess.Popen(command, stderr=log, stdout=log)
        begun = len((tmp_path / "log").read_text())
        try:
            loaded = 0
            while loaded < 3:
                for _ in range(chance.randint(1, 3)):
                    change(next(numbers))
                time.sleep(chance.uniform(0.5, 4))
                assert process.poll() is None, (tmp_path / "log").read_text()[-5000:]
                loaded = (tmp_path / "log").read_text()[begun:].count("load.progress")
            process.send_signal(signal.SIGKILL if is_killed else signal.SIGTERM)
            assert process.wait(120) == (-signal.SIGKILL if is_killed else 0)
        finally:
            process.kill()
            process.wait()
    assert "failed" not in (tmp_path / "log").read_text()

    lakehouse.run(allow_deletes=True)
    lakehouse.assert_mirrored()
    found = {uri.rsplit("/", 1)[1]: text for uri, text in lakehouse.rows(DOCUMENTS, "uri", "text")}
    assert found == texts
    report = verify(lakehouse.settings, progress=Progress(terminal=False))
    assert report.ok, report


def test_files_are_taken_in_while_there_is_room():
    flow = Flow(Pipeline(max_waiting_chunks=100))
    soon = time.monotonic()
    assert flow.files_admitted(soon) == 10
    flow.announce(flow.documents, 60)
    assert flow.files_admitted(soon) == 0

    begun = flow.begun(flow.documents)
    flow.announce(flow.chunks, 40)
    flow.announce(flow.documents, 30)
    flow.done(flow.documents, begun)
    assert (flow.documents.total, flow.chunks.total) == (30, 40)
    assert flow.files_admitted(time.monotonic() + 0.2) == 0
    flow.done(flow.chunks, flow.begun(flow.chunks))
    assert flow.files_admitted(time.monotonic() + 5) == 7


def test_what_a_failed_stage_announced_takes_no_room():
    flow = Flow(Pipeline(max_waiting_chunks=100))
    flow.announce(flow.documents, 90)
    assert flow.files_admitted(time.monotonic()) == 0
    flow.begin_anew(flow.documents)
    assert flow.files_admitted(time.monotonic()) == 10


def test_the_stage_nearest_to_milvus_has_the_next_turn():
    turns = Turns(1)
    order = []

    def work(stage):
        with turns.of(stage):
            order.append(stage)

    with ThreadPoolExecutor(3) as pool:
        with turns.of("ingest"):
            waiting = [pool.submit(work, stage) for stage in ("chunk", "load", "embed")]
            while len(turns.waiting) < 3:
                time.sleep(0.01)
            assert order == []
        for each in waiting:
            each.result(timeout=10)
    assert order == ["load", "embed", "chunk"]


def test_a_turn_that_lasts_too_long_holds_up_nobody(monkeypatch):
    monkeypatch.setattr("lakevec.jobs.flow.LONGEST_TURN_SECONDS", 1.0)
    turns = Turns(1)

    def work(stage):
        with turns.of(stage):
            return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        # A file that never ends.
        with turns.of("ingest"):
            begun = time.monotonic()
            assert pool.submit(work, "embed").result(timeout=10) - begun >= 1.0
            # That one's turn holds up others again.
            with turns.of("chunk"):
                begun = time.monotonic()
                assert pool.submit(work, "load").result(timeout=10) - begun >= 1.0
        assert pool.submit(work, "load").result(timeout=0.4)


def test_a_turn_is_kept_for_a_moment_for_the_stage_that_was_given_work():
    turns = Turns(1)
    order = []

    def work(stage, after):
        time.sleep(after)
        with turns.of(stage):
            order.append(stage)

    with ThreadPoolExecutor(2) as pool:
        with turns.of("embed"):
            ingest = pool.submit(work, "ingest", 0.0)
            while not turns.waiting:
                time.sleep(0.01)
            turns.expect("load")
        load = pool.submit(work, "load", 0.3)
        ingest.result(timeout=10)
        load.result(timeout=10)
    assert order == ["load", "ingest"]

    # One that does not come holds nobody up for long.
    begun = time.monotonic()
    turns.expect("load")
    with turns.of("ingest"):
        assert time.monotonic() - begun < 2 * COMES_WITHIN


def test_a_stage_at_work_is_not_waited_for_where_others_have_room():
    turns = Turns(2)
    with turns.of("load"):
        turns.expect("load")
        begun = time.monotonic()
        with turns.of("chunk"):
            assert time.monotonic() - begun < COMES_WITHIN / 2


def test_losses_within_an_hour_are_one_loss(monkeypatch):
    monkeypatch.setattr("lakevec.jobs.guard.moved_files", lambda *_: 0)
    clock = [0.0]
    monkeypatch.setattr("lakevec.jobs.guard.time.monotonic", lambda: clock[0])
    guard = Guard("/data", 0.2)
    assert guard.implausible_loss(None, 15, 100) is None
    clock[0] = 60.0
    assert "30 of 100 known files are gone" in guard.implausible_loss(None, 15, 85)
    clock[0] = 3700.0
    assert guard.implausible_loss(None, 15, 85) is None
    guard.believe()
    assert guard.implausible_loss(None, 14, 70) is None


def test_files_that_give_no_document_leave_room_for_others(lakehouse):
    for number in range(3):
        lakehouse.write(f"{number}.pdf", b"%PDF-1.7 nothing more")
    lake, flow = lakehouse.lake(), Flow(Pipeline(max_waiting_chunks=10))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingest, lake, lakehouse.settings, Progress(terminal=False), flow=flow)
        try:
            deadline = time.monotonic() + 120
            # Each alone would fill the room, were it taken for work that waits.
            while lake.tables.quarantine().count() < 3:
                assert time.monotonic() < deadline
                assert not running.done()
                time.sleep(0.2)
        finally:
            flow.stop()
    assert running.result().quarantined == 3
    assert flow.documents.total == 0


def test_what_did_not_change_is_compared_once_and_each_change_alone(lakehouse, monkeypatch):
    listed, compared = [], []

    def kept(name, calls):
        original = getattr(ingesting, name)
        monkeypatch.setattr(ingesting, name, lambda *args, **named: calls.append(args[0]) or original(*args, **named))

    kept("list_now", listed)
    kept("differences", compared)
    lakehouse.write("a.txt", "The harbour opens at six.")
    lake, flow = lakehouse.lake(), Flow(Pipeline())
    guard = Guard(str(lakehouse.source), 0.2, allow_deletes=True)
    deadline = time.monotonic() + 120

    def wait_for(condition):
        while not condition():
            assert time.monotonic() < deadline
            assert not running.done()
            time.sleep(0.2)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingest, lake, lakehouse.settings, Progress(terminal=False), guard, flow)
        try:
            wait_for(lambda: len(listed) >= 4)
            # A permission speaks of what was gone when the run began.
            assert not guard.allow_deletes
            lakehouse.write("b.txt", "The harbour closes at ten.")
            wait_for(lambda: lake.tables.read(DOCUMENTS).count() == 2)
            (lakehouse.source / "a.txt").unlink()
            wait_for(lambda: lake.tables.read(DOCUMENTS).count() == 1)
        finally:
            flow.stop()
    # Nothing but the whole listing, and the deletion: of a new file nothing can be known.
    uris = [sorted(Path(uri).name for (uri,) in rows.select("uri").collect()) for rows in compared]
    assert uris[:2] == [["a.txt"], []]
    # A listing that differs in nothing is no step.
    assert flow.steps["ingest"] == 3


def test_a_slow_listing_is_made_less_often():
    flow = Flow(Pipeline(trigger_seconds=2))
    assert flow.next_listing(100.0, 0.01) == 102.0
    assert flow.next_listing(100.0, 1.5) == 115.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_flow_and_the_next_one_does_what_it_did_before(number):
    flow, caught = Flow(Pipeline()), []
    before = signal.signal(number, lambda *_: caught.append(number))
    try:
        with ended_by_signals(flow):
            signal.raise_signal(number)
            assert flow.stopping.wait(10)
            assert caught == []
            signal.raise_signal(number)
        assert caught == [number]
    finally:
        signal.signal(number, before)


def test_where_milvus_is_away_at_the_end_a_stage_is_left_as_it_is():
    told = []
    progress: Any = SimpleNamespace(log=lambda event, **_: told.append(event))

    def leave(error):
        flow = Flow(Pipeline())

        def work():
            flow.stop()
            raise error

        kept_up("load", work, flow, progress, RunReport())

    leave(MilvusException(2, "Fail connecting to server"))
    assert told == ["load.left"]
    with pytest.raises(MilvusException, match="wrong request"):
        leave(MilvusException(1100, "wrong request"))


@pytest.mark.parametrize(("gets_on", "quiet", "attempts"), [([], [], 12), ([3, 7], [], 18), ([], [5], 16)])
def test_a_stage_that_fails_twelve_times_with_nothing_done_in_between_ends_the_run(
    monkeypatch, gets_on, quiet, attempts
):
    flow, begun, clock = Flow(Pipeline()), [], [0.0]
    monkeypatch.setattr(flow, "rest", lambda seconds: None)
    monkeypatch.setattr("lakevec.jobs.continuous.time.monotonic", lambda: clock[0])

    def work():
        begun.append(len(begun) + 1)
        if begun[-1] in gets_on:
            flow.got_on("load")
        if begun[-1] in quiet:
            clock[0] += 3700.0
        raise MilvusError("no room is left")

    with pytest.raises(MilvusError, match="no room is left"):
        kept_up("load", work, flow, SimpleNamespace(log=lambda *_, **__: None), RunReport())  # pyright: ignore[reportArgumentType]

    assert begun[-1] == attempts


def test_what_a_stage_did_before_it_failed_is_counted(monkeypatch):
    flow, report, begun = Flow(Pipeline()), RunReport(), []
    monkeypatch.setattr(flow, "rest", lambda seconds: None)

    def work():
        begun.append(flow.outcomes.setdefault("chunk", Chunked(documents=2)))
        if len(begun) == 1:
            raise MilvusError("away")
        begun[-1].documents += 1

    kept_up("chunk", work, flow, SimpleNamespace(log=lambda *_, **__: None), report)  # pyright: ignore[reportArgumentType]

    assert report.stages["chunk"]["documents"] == 5


def test_of_a_source_that_is_away_nothing_is_told(lakehouse):
    shutil.rmtree(lakehouse.source)
    flow = Flow(Pipeline())

    with pytest.raises(SourceError):
        ingest(lakehouse.lake(), lakehouse.settings, Progress(terminal=False), flow=flow)

    assert flow.outcomes == {}


def test_only_what_cannot_pass_ends_a_stage_at_once():
    assert may_pass(MilvusError("away"))
    assert may_pass(OSError("away"))
    assert not may_pass(ConfigurationError("wrong"))
