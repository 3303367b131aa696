import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lakevec.jobs.errors import ConfigurationError, SourceError
from lakevec.jobs.flow import Flow
from lakevec.jobs.guard import guard_of, noted_held_back
from lakevec.jobs.ingest import Ingest
from lakevec.jobs.lake.changes import apply
from lakevec.jobs.lake.stream import was_cut_off
from lakevec.jobs.lake.tables import DOCUMENTS, FILES
from lakevec.jobs.outcomes import may_change_unseen
from lakevec.jobs.progress import Progress
from lakevec.jobs.retry import retry
from lakevec.jobs.settings import Pipeline
from lakevec.jobs.status import status
from lakevec.jobs.verify import verify
from pyspark.sql import functions as F

INGEST = ("ingest",)


def texts(lakehouse):
    return [text for (text,) in lakehouse.rows(DOCUMENTS, "text")]


def test_new_changed_and_gone_files_arrive(lakehouse):
    lakehouse.write("a.txt", "first", modified=1_700_000_000)
    lakehouse.write("b.txt", "second")
    first = lakehouse.run(INGEST)
    assert (first.files_seen, first.documents, first.deleted) == (2, 2, 0)

    lakehouse.write("a.txt", "first, again", modified=1_700_000_001)
    (lakehouse.source / "b.txt").unlink()
    lakehouse.write("c.txt", "third")
    second = lakehouse.run(INGEST)

    assert (second.files_seen, second.documents, second.deleted) == (2, 2, 1)
    assert texts(lakehouse) == ["first, again", "third"]


def test_nothing_new_writes_nothing(lakehouse):
    lakehouse.write("a.txt", "first")
    lakehouse.run(INGEST)
    versions = [lakehouse.lake().tables.version(table) for table in (FILES, DOCUMENTS)]

    again = lakehouse.run(INGEST)

    assert again.files_seen == 1
    assert (again.documents, again.quarantined, again.deleted) == (0, 0, 0)
    assert [lakehouse.lake().tables.version(table) for table in (FILES, DOCUMENTS)] == versions


def test_a_forget_that_was_cut_off_is_completed_before_an_ingest_that_was_cut_off_is_doubted(lakehouse):
    lakehouse.write("a.txt", "a secret")
    lakehouse.run(INGEST)
    lake = lakehouse.lake()
    [(doc_id,)] = lakehouse.rows(DOCUMENTS, "doc_id")
    # What both leave when they are killed: no commit of the micro-batch, and a document that `files` keeps away.
    away = {"state": F.lit("forgotten"), "documents": F.lit(0), "forgotten": F.array(F.lit(doc_id))}
    lake.tables.delta(FILES).update(set=away)
    commits = Path(lake.checkpoint("ingest")) / "commits"
    max(commits.glob("[0-9]*"), key=lambda file: int(file.name)).unlink()
    assert was_cut_off(lake.checkpoint("ingest"))
    lakehouse.write("copy.txt", "a secret")

    report = lakehouse.run(INGEST)

    assert (report.documents, report.deleted) == (0, 1)
    assert lakehouse.rows(FILES, "state") == [("forgotten",), ("forgotten",)]


def test_a_touched_file_changes_files_alone(lakehouse):
    path = lakehouse.write("2024-05-17 a.txt", "first", modified=1_700_000_000)
    lakehouse.run(INGEST)
    version = lakehouse.lake().tables.version(DOCUMENTS)

    os.utime(path, (1_700_009_000, 1_700_009_000))
    report = lakehouse.run(INGEST)

    assert report.documents == 0
    assert lakehouse.lake().tables.version(DOCUMENTS) == version
    ((modified_at,),) = lakehouse.rows(FILES, "modified_at")
    assert modified_at.timestamp() == 1_700_009_000


def test_a_bad_file_is_quarantined_with_its_reason_and_costs_nothing_else(lakehouse):
    lakehouse.write("good.txt", "good")
    lakehouse.write("broken.pdf", b"%PDF-1.7 nothing more")
    lakehouse.write("program.bin", bytes(range(256)) * 10)

    report = lakehouse.run(INGEST)

    assert (report.documents, report.quarantined) == (1, 2)
    quarantined = lakehouse.lake().tables.quarantine().orderBy("uri").collect()
    assert [row["uri"].rsplit("/", 1)[1] for row in quarantined] == ["broken.pdf", "program.bin"]
    assert [row["stage"] for row in quarantined] == ["parse", "parse"]
    assert quarantined[1]["error_class"] == "UnsupportedFormat"
    assert all(row["message"] and row["attempts"] == 1 and row["at"] for row in quarantined)


def test_a_quarantined_new_version_keeps_the_old_document_or_removes_it_by_setting_until_one_can_be_read(lakehouse):
    broken = b"\x00\x01\x02\x03" * 100
    lakehouse.write("a.html", "<p>good</p>", modified=1_700_000_000)
    lakehouse.run(INGEST)
    ((read_at,),) = lakehouse.rows(FILES, "parsed_at")

    lakehouse.write("a.html", broken, modified=1_700_000_001)
    assert lakehouse.run(INGEST).quarantined == 1
    assert texts(lakehouse) == ["good"]
    assert lakehouse.rows(FILES, "state", "documents", "parsed_at") == [("quarantined", 1, read_at)]
    (told,) = status(lakehouse.settings).quarantined
    assert (told["documents"], told["answers_from"], told["attempts"]) == (1, read_at.astimezone(UTC), 1)

    setting = lakehouse.settings.ingest.model_copy(update={"unreadable": "remove"})
    lakehouse.settings = lakehouse.settings.model_copy(update={"ingest": setting})
    lakehouse.write("a.html", broken * 2, modified=1_700_000_002)
    report = lakehouse.run(INGEST)
    assert (report.quarantined, report.deleted) == (1, 1)
    assert texts(lakehouse) == []
    assert lakehouse.rows(FILES, "documents", "parsed_at", "reason.attempts") == [(0, None, 2)]

    lakehouse.write("a.html", "<p>better</p>", modified=1_700_000_003)
    assert lakehouse.run(INGEST).documents == 1
    assert lakehouse.rows(FILES, "state", "documents", "reason") == [("parsed", 1, None)]


def test_messages_of_an_mbox_come_and_go(lakehouse):
    def message(number):
        return f"From a@b Mon Jan  1 00:00:00 2024\nMessage-ID: <{number}@b>\nSubject: No {number}\n\nBody {number}\n\n"

    lakehouse.write("list.mbox", message(1) + message(2) + message(3), modified=1_700_000_000)
    lakehouse.run(INGEST)
    before = dict(lakehouse.rows(DOCUMENTS, "part", "doc_id"))

    lakehouse.write("list.mbox", message(1) + message(3), modified=1_700_000_001)
    report = lakehouse.run(INGEST)

    after = dict(lakehouse.rows(DOCUMENTS, "part", "doc_id"))
    assert (report.documents, report.deleted) == (0, 1)
    assert len(before) == 3
    assert len(after) == 2
    assert after.items() < before.items()


def test_a_source_that_lost_much_stops_the_run_before_anything_is_deleted(lakehouse):
    for number in range(25):
        lakehouse.write(f"{number}.txt", f"text {number}")
    lakehouse.run(INGEST)
    away = lakehouse.source.with_name("away")
    away.mkdir()
    lost = [f"{number}.txt" for number in range(10)]
    for name in lost:
        shutil.move(lakehouse.source / name, away / name)

    with pytest.raises(SourceError, match=r"10 of 25 known files are gone .*--allow-deletes"):
        lakehouse.run(INGEST)
    assert "10 of 25" in noted_held_back(lakehouse.settings.lake.path)
    assert len(texts(lakehouse)) == 25

    for name in lost:
        shutil.move(away / name, lakehouse.source / name)
    assert lakehouse.run(INGEST).deleted == 0
    assert noted_held_back(lakehouse.settings.lake.path) is None

    for name in lost:
        (lakehouse.source / name).unlink()
    assert lakehouse.run(INGEST, allow_deletes=True).deleted == 10


def test_an_empty_source_is_not_believed_however_few_files_it_had(lakehouse):
    for number in range(3):
        lakehouse.write(f"{number}.txt", f"text {number}")
    lakehouse.run(INGEST)
    shutil.move(lakehouse.source, lakehouse.source.with_name("unmounted"))
    lakehouse.source.mkdir()

    with pytest.raises(SourceError, match=r"3 of 3 known files are gone .*all of them.*--allow-deletes"):
        lakehouse.run(INGEST)

    assert len(texts(lakehouse)) == 3
    assert lakehouse.run(INGEST, allow_deletes=True).deleted == 3


@pytest.mark.slow
def test_what_was_forgotten_stays_away_when_its_file_goes_and_comes_back_under_another_name(lakehouse, monkeypatch):
    """As `forget` leaves the row of its file: forgotten whole, and a part of it."""
    # Each file in a piece of its own.
    monkeypatch.setattr("lakevec.jobs.ingest.FIRST_PIECE", 1)
    lakehouse.write("secret.txt", "The secret.", modified=1_700_000_000)
    lakehouse.write("parts.txt", "A part.", modified=1_700_000_000)
    lakehouse.write("other.txt", "Something else.", modified=1_700_000_000)
    lakehouse.run(INGEST)
    tables = lakehouse.lake().tables
    (part,) = [doc_id for uri, doc_id in lakehouse.rows(DOCUMENTS, "uri", "doc_id") if uri.endswith("parts.txt")]
    tables.delta(FILES).update("uri like '%secret.txt'", {"state": F.lit("forgotten"), "documents": F.lit(0)})
    tables.delta(FILES).update("uri like '%parts.txt'", {"forgotten": F.array(F.lit(part)), "documents": F.lit(0)})
    tables.delta(DOCUMENTS).delete("uri not like '%other.txt'")

    for name in ("secret.txt", "parts.txt"):
        shutil.move(lakehouse.source / name, lakehouse.source.parent / name)
    lakehouse.run(INGEST)
    assert {uri.rpartition("/")[2]: state for uri, state in lakehouse.rows(FILES, "uri", "state")} == {
        "secret.txt": "forgotten",
        "parts.txt": "gone",
        "other.txt": "parsed",
    }
    assert lakehouse.run(INGEST).files_seen == 1

    shutil.copy(lakehouse.source.parent / "secret.txt", lakehouse.source / "copied.txt")
    shutil.copy(lakehouse.source.parent / "secret.txt", lakehouse.source / "copied again.txt")
    shutil.move(lakehouse.source.parent / "secret.txt", lakehouse.source / "moved.txt")
    shutil.move(lakehouse.source.parent / "parts.txt", lakehouse.source / "parts.txt")
    lakehouse.run(INGEST)
    assert texts(lakehouse) == ["Something else."]


@pytest.mark.parametrize(
    ("fraction", "seconds_ago", "may_change"),
    [(0, 1.5, True), (0, 2.5, False), (0.5, 1.5, False), (0, -30, True), (0, -3600, False)],
)
def test_a_time_of_whole_seconds_is_not_relied_on_before_it_has_passed(fraction, seconds_ago, may_change):
    modified = datetime(2024, 5, 17, tzinfo=UTC) + timedelta(seconds=fraction)
    assert may_change_unseen(modified, modified + timedelta(seconds=seconds_ago)) == may_change


def test_another_version_with_the_same_time_and_size_is_read(lakehouse, monkeypatch):
    # However slow this machine is, that time has not passed.
    monkeypatch.setattr("lakevec.jobs.outcomes.CLOCKS_APART", timedelta(hours=2))
    now = int(time.time()) + 3600
    lakehouse.write("a.txt", "first", modified=now)
    lakehouse.run(INGEST)
    lakehouse.write("a.txt", "other", modified=now)

    lakehouse.run(INGEST)

    assert texts(lakehouse) == ["other"]


def test_a_continuous_run_asks_again_of_what_may_have_changed_unseen(lakehouse, monkeypatch):
    monkeypatch.setattr("lakevec.jobs.outcomes.CLOCKS_APART", timedelta(hours=2))
    now = int(time.time()) + 3600
    progress, flow = Progress(terminal=False), Flow(Pipeline())
    stage = Ingest(lakehouse.lake(), lakehouse.settings, progress, guard_of(lakehouse.settings), flow)
    lakehouse.write("a.txt", "first", modified=now)
    lakehouse.write("b.txt", "another")
    stage.handle(None, 0)
    lakehouse.write("a.txt", "other", modified=now)

    stage.handle(None, 1)

    assert texts(lakehouse) == ["another", "other"]


def test_a_continuous_run_counts_files_that_it_would_ask_again_among_those_that_are_gone(lakehouse, monkeypatch):
    monkeypatch.setattr("lakevec.jobs.outcomes.CLOCKS_APART", timedelta(hours=2))
    progress, flow = Progress(terminal=False), Flow(Pipeline())
    stage = Ingest(lakehouse.lake(), lakehouse.settings, progress, guard_of(lakehouse.settings), flow)
    lakehouse.write("fresh.txt", "written this second", modified=int(time.time()) + 3600)
    for name in ("a.txt", "b.txt"):
        lakehouse.write(name, f"What is in {name}.")
    stage.handle(None, 0)
    for path in lakehouse.source.iterdir():
        path.unlink()

    stage.handle(None, 1)

    assert (stage.done.held_back, stage.done.deleted) == (3, 0)
    assert len(texts(lakehouse)) == 3


def test_a_continuous_run_knows_a_forgotten_file_that_went_and_comes_back(lakehouse):
    lakehouse.write("a.txt", "a secret")
    lakehouse.run(INGEST)
    tables = lakehouse.lake().tables
    tables.delta(FILES).update(set={"state": F.lit("forgotten"), "documents": F.lit(0)})
    tables.delta(DOCUMENTS).delete()
    progress, flow = Progress(terminal=False), Flow(Pipeline())
    stage = Ingest(lakehouse.lake(), lakehouse.settings, progress, guard_of(lakehouse.settings), flow)
    stage.handle(None, 0)
    copy = lakehouse.write("copy.txt", "a secret")
    stage.handle(None, 1)
    copy.unlink()
    stage.handle(None, 2)

    for name in ("copy.txt", "new.txt"):
        lakehouse.write(name, f"What is in {name} now.")
    stage.handle(None, 3)

    assert sorted(lakehouse.rows(FILES, "state")) == [("forgotten",), ("forgotten",), ("parsed",)]
    assert texts(lakehouse) == ["What is in new.txt now."]


def test_renamed_files_do_not_count_as_lost(lakehouse):
    for number in range(25):
        lakehouse.write(f"{number}.txt", f"text {number}")
    lakehouse.run(INGEST)
    (lakehouse.source / "moved").mkdir()
    for number in range(20):
        shutil.move(lakehouse.source / f"{number}.txt", lakehouse.source / "moved" / f"{number}.txt")

    report = lakehouse.run(INGEST)

    assert (report.documents, report.deleted) == (20, 20)


def test_a_source_that_is_gone_is_an_error_and_no_deletion(lakehouse):
    lakehouse.write("a.txt", "first")
    lakehouse.run(INGEST)
    lakehouse.source.rename(lakehouse.source.with_name("unmounted"))

    with pytest.raises(SourceError, match="does not exist"):
        lakehouse.run(INGEST)

    assert texts(lakehouse) == ["first"]


def test_a_folder_that_cannot_be_listed_is_an_error_and_no_deletion(lakehouse, monkeypatch):
    lakehouse.write("a.txt", "first")
    lakehouse.run(INGEST)
    lakehouse.source.rename(lakehouse.source.with_name("unmounted"))
    # As when it goes between the check and the listing.
    for module in ("run", "ingest"):
        monkeypatch.setattr(f"lakevec.jobs.{module}.check_source", lambda root: None)

    with pytest.raises(SourceError, match="cannot be listed"):
        lakehouse.run(INGEST)

    assert texts(lakehouse) == ["first"]


def test_a_large_source_is_read_in_pieces_newest_first(lakehouse):
    for number in range(5):
        lakehouse.write(f"{number}.txt", f"text {number}", modified=1_700_000_000 + number)
    settings = lakehouse.settings
    lakehouse.settings = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"max_files": 2})})

    assert lakehouse.run(INGEST).documents == 5

    order = lakehouse.lake().tables.read(FILES).orderBy("seen_at", "uri").select("uri").collect()
    assert {row["uri"].rsplit("/", 1)[1] for row in order[:2]} == {"4.txt", "3.txt"}


def test_files_that_were_quarantined_and_moved_do_not_count_as_lost(lakehouse):
    for number in range(25):
        lakehouse.write(f"{number}.png", b"\x89PNG" + bytes([number]) * 100)
    lakehouse.run(INGEST)
    (lakehouse.source / "images").mkdir()
    for number in range(20):
        shutil.move(lakehouse.source / f"{number}.png", lakehouse.source / "images" / f"{number}.png")

    assert lakehouse.run(INGEST).quarantined == 20


def test_a_file_that_could_not_be_read_is_tried_again_when_it_can_be(lakehouse, spark):
    path = lakehouse.write("a.txt", "first")
    lakehouse.run(INGEST)
    reason = F.named_struct(
        *[F.lit(part) for part in ("stage", "read", "error_class", "OSError", "message", "Input/output error")],
        F.lit("attempts"),
        F.lit(1),
        F.lit("at"),
        F.current_timestamp(),
    )
    tables = lakehouse.lake().tables
    tables.delta(FILES).update(set={"state": F.lit("quarantined"), "reason": reason, "hash": F.lit(None)})

    report = lakehouse.run(INGEST)

    assert path.exists()
    assert (report.quarantined, report.stages["ingest"]["changes"]) == (0, 0)
    assert lakehouse.rows(FILES, "state") == [("parsed",)]


def dying_run(lakehouse, monkeypatch):
    """It dies when `documents` is written and `files` is not."""
    written = []

    def no_files_after_documents(tables, table, actions, *more):
        if written and table is FILES:
            raise KeyboardInterrupt
        if table is DOCUMENTS:
            written.append(table)
        return apply(tables, table, actions, *more)

    with monkeypatch.context() as patch:
        patch.setattr("lakevec.jobs.ingest.apply", no_files_after_documents)
        with pytest.raises(KeyboardInterrupt):
            lakehouse.run(INGEST)


def test_documents_of_a_first_run_that_died_go_with_their_file(lakehouse, monkeypatch):
    lakehouse.write("a.txt", "It leaves before anybody wrote down that it was there.")
    dying_run(lakehouse, monkeypatch)
    assert len(texts(lakehouse)) == 1
    (lakehouse.source / "a.txt").unlink()
    lakehouse.write("b.txt", "It stays.")

    lakehouse.run(INGEST, allow_deletes=True)

    assert texts(lakehouse) == ["It stays."]


@pytest.mark.slow
def test_what_changes_back_after_a_crash_between_documents_and_files_is_read_again(lakehouse, monkeypatch):
    def write(name, text, modified):
        lakehouse.write(name, text, modified=1_700_000_000 + modified)

    write("deleted.txt", "deleted", 0)
    write("edited.txt", "edited", 0)
    lakehouse.run(INGEST)
    # As when the clock is set back: what is known was written in times to come.
    tables = lakehouse.lake().tables
    tables.delta(FILES).update(set={"seen_at": F.expr("seen_at + interval 1 day")})
    tables.delta(DOCUMENTS).update(set={"changed_at": F.expr("changed_at + interval 1 day")})

    (lakehouse.source / "deleted.txt").unlink()
    dying_run(lakehouse, monkeypatch)
    assert texts(lakehouse) == ["edited"]

    write("deleted.txt", "deleted", 0)
    write("edited.txt", "another text", 1)
    write("new.txt", "new", 1)
    dying_run(lakehouse, monkeypatch)
    assert texts(lakehouse) == ["another text", "deleted", "new"]

    write("edited.txt", "edited", 0)
    (lakehouse.source / "new.txt").unlink()
    lakehouse.run(INGEST)
    assert texts(lakehouse) == ["deleted", "edited"]


def test_a_lake_is_made_by_what_reads_a_source_and_by_nothing_else(lakehouse, tmp_path):
    lake = lakehouse.settings.lake.model_copy(update={"path": str(tmp_path / "mistyped")})
    lakehouse.settings = lakehouse.settings.model_copy(update={"lake": lake})

    with pytest.raises(ConfigurationError, match=r"There is no lake at lake.path .*mistyped"):
        lakehouse.run(("chunk",))
    for other in (
        status,
        lambda settings: verify(settings, repair=True),
        lambda settings: retry(settings, None, Progress()),
    ):
        with pytest.raises(ConfigurationError, match="There is no lake"):
            other(lakehouse.settings)

    assert not (tmp_path / "mistyped").exists()
