import os

import pytest
from lakevec.jobs.errors import SourceError
from lakevec.jobs.lake.listing import list_now
from lakevec.jobs.lake.source import check_source, list_files, read_file, source_root


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


def test_a_source_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(SourceError, match="gone does not exist"):
        check_source(source_root(str(tmp_path / "gone")))


def test_a_listing_in_spark_has_size_and_time(spark, source):
    rows = list_now(spark, source, ["a.md"], []).collect()

    assert [(row["uri"], row["size"]) for row in rows] == [(f"{source}/a.md", 4)]
    assert int(rows[0]["modified_at"].timestamp()) == int(os.stat(f"{source}/a.md").st_mtime)
