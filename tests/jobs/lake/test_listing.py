import gzip
import os
from datetime import UTC, datetime, timedelta

import pytest
from lakevec.jobs.errors import SourceError
from lakevec.jobs.lake import source as source_module
from lakevec.jobs.lake.listing import drop_older_offsets, list_now, occasion_before, occasions
from lakevec.jobs.lake.source import FileTooLarge, NameNotUtf8, check_source, list_files, read_file, source_root
from lakevec.jobs.lake.stream import run_stream


def names(files):
    return sorted(file.uri.rsplit("/", 1)[1] for file in files)


@pytest.fixture
def source(tmp_path):
    for name in ("a.md", "b.pdf", ".hidden", "~$lock.docx", "drafts/c.md", ".git/d.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return str(tmp_path)


def test_hidden_files_and_locks_are_nobodys_documents(source):
    assert names(list_files(source, [], [])) == ["a.md", "b.pdf", "c.md"]


def test_globs_choose_files(source):
    assert names(list_files(source, ["*.md"], ["drafts/*"])) == ["a.md"]


def test_a_listed_file_is_read_by_its_uri(source):
    (file,) = list_files(source, ["a.md"], [])

    assert file.uri == f"{source}/a.md"
    assert read_file(source, file.uri) == b"a.md"
    assert file.size == 4
    assert file.modified_us == os.stat(file.uri).st_mtime_ns // 1000


def test_a_name_of_many_scripts_is_found_again(tmp_path):
    (tmp_path / "日本 % #é🙂.md").write_text("text")

    (file,) = list_files(str(tmp_path), [], [])

    assert read_file(str(tmp_path), file.uri) == b"text"


def test_a_name_that_is_not_utf8_is_listed_as_no_other_is_and_told_to_be_renamed(tmp_path):
    odd_names = [b"caf\xe9.md", b"caf\\xe9\xff.md", b"caf\xe9\xff.md", b"\xe9t\xe9/a.md"]
    for name in [*odd_names, rb"caf\xe9.md", b"fine.md"]:
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)

    uris = sorted(file.uri.removeprefix(str(tmp_path)) for file in list_files(str(tmp_path), ["*.md"], []))

    assert uris == [
        r"//\xe9t\xe9/a.md",
        r"//caf\\xe9\xff.md",
        r"//caf\xe9.md",
        r"//caf\xe9\xff.md",
        r"/caf\xe9.md",
        "/fine.md",
    ]
    assert read_file(str(tmp_path), rf"{tmp_path}/caf\xe9.md") == rb"caf\xe9.md"
    with pytest.raises(NameNotUtf8, match=r"the name caf\\xe9\.md is not UTF-8 .*; rename it"):
        read_file(str(tmp_path), rf"{tmp_path}//caf\xe9.md")


def test_links_that_lead_in_a_circle_add_nothing(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("a")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "docs" / "up").symlink_to("..")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "nowhere").symlink_to("nothing")

    assert [file.uri for file in list_files(str(tmp_path), [], [])] == [f"{tmp_path}/docs/a.md"]


def test_a_link_to_a_file_is_read_as_one_and_a_folder_elsewhere_is_walked_once(tmp_path):
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "b.md").write_text("bb")
    source.mkdir()
    (source / "a.md").symlink_to(elsewhere / "deep" / "b.md")
    (source / "first").symlink_to(elsewhere)
    (source / "second").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(source)

    files = list(list_files(str(source), [], []))

    assert [(file.uri, file.size) for file in files] == [(f"{source}/a.md", 2), (f"{source}/first/deep/b.md", 2)]
    assert [read_file(str(source), file.uri) for file in files] == [b"bb", b"bb"]


def test_a_folder_that_cannot_be_read_is_an_error_and_no_absence(source, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if path.endswith(b"drafts"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"cannot be listed: .*Permission denied: .*drafts"):
        list_now(source, [], [])


def test_a_file_that_grew_too_large_is_not_read(source, monkeypatch):
    monkeypatch.setattr(source_module, "LARGEST_FILE_MB", 1)
    with open(f"{source}/a.md", "ab") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(FileTooLarge, match="1 MB are more than the 1 MB that are read"):
        read_file(source, f"{source}/a.md")


def test_a_packed_file_is_read_as_it_lies(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"text"))

    assert gzip.decompress(read_file(str(tmp_path), f"{tmp_path}/a.txt.gz")) == b"text"


def test_a_source_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(SourceError, match="gone does not exist"):
        check_source(source_root(str(tmp_path / "gone")))


def test_a_listing_has_size_and_time(source):
    assert list_now(source, ["a.md"], []).to_pylist() == [
        {
            "uri": f"{source}/a.md",
            "size": 4,
            "modified_at": datetime.fromtimestamp(os.stat(f"{source}/a.md").st_mtime_ns // 1000 / 1e6, UTC),
        }
    ]
    assert list_now(source, ["*.none"], []).num_rows == 0


def test_each_run_of_a_stream_has_one_occasion_and_knows_when_the_last_was(spark, tmp_path):
    checkpoint = str(tmp_path)
    seen: list[tuple[int, bool]] = []
    begun = datetime.now(UTC)

    def handle(_, number):
        before = occasion_before(checkpoint, number)
        seen.append((number, before is not None and begun - timedelta(seconds=1) < before < datetime.now(UTC)))

    for _ in range(2):
        run_stream(occasions(spark), checkpoint, handle)

    assert seen == [(0, False), (1, True)]


def test_a_checkpoint_of_an_older_listing_is_dropped_and_no_other(spark, tmp_path):
    older, newer = tmp_path / "older", tmp_path / "newer"
    (older / "offsets").mkdir(parents=True)
    (older / "offsets" / "7").write_text('v1\n{"batchWatermarkMs":0}\n{"at": 1795860785544}')
    run_stream(occasions(spark), str(newer), lambda *_: None)

    for checkpoint in (older, newer, tmp_path / "none"):
        drop_older_offsets(str(checkpoint))

    assert [older.exists(), newer.exists()] == [False, True]


def test_a_time_that_no_calendar_has_is_the_last_or_the_first_that_all_have(source, monkeypatch):
    far = 300_000_000_000_000_000
    monkeypatch.setattr(source_module, "files_in_folder", lambda _: iter([("a.md", 1, far), ("b.md", 1, -far)]))

    rows = list_now(source, [], []).to_pylist()

    assert [row["modified_at"].isoformat() for row in rows] == [
        "9999-12-30T00:00:00+00:00",
        "0001-01-02T00:00:00+00:00",
    ]
