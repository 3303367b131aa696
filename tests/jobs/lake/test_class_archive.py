import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lakevec.jobs.lake.class_archive import (
    JAVA_OPTIONS,
    SECONDS_TO_NEXT_TRY,
    SECONDS_UNUSED,
    class_archive,
    is_whole,
    with_class_archive,
)
from lakevec.jobs.lake.jars import ivy_folder

SESSION = """
import sys
from lakevec.jobs.lake.session import spark_session
from lakevec.jobs.settings import load_settings

settings = load_settings("local", ["spark.master=local[1]", f"spark.conf.{sys.argv[1]}={sys.argv[2]}"])
spark_session(settings.spark, keeps_classes=True).range(3).count()
"""
SECONDS_TO_ARCHIVE = 120


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "lakevec"


def options(java: str = "Java 17", makes_one: bool = True, **conf: str) -> str:
    given = {f"spark.driver.{name}": value for name, value in conf.items()}
    return with_class_archive(given, java, makes_one).get(JAVA_OPTIONS, "")


def ago(file: Path, seconds: float) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


def test_one_session_makes_the_archive_and_later_ones_use_it(cache):
    archive = class_archive({}, "Java 17")
    assert archive.parent == cache
    assert options(makes_one=False) == ""
    assert f'"-XX:ArchiveClassesAtExit={archive}"' in options(extraJavaOptions="-Da=b")
    assert options(extraJavaOptions="-Da=b") == "-Da=b"

    # The JVM has begun: its header comes last.
    archive.write_bytes(bytes(8))
    assert options() == ""
    archive.write_bytes(b"\xa8\xab\x0b\xf0")
    ago(archive, SECONDS_UNUSED - 60)

    assert options(makes_one=False, extraJavaOptions="-Da=b") == f'-Da=b "-XX:SharedArchiveFile={archive}"'
    assert time.time() - archive.stat().st_mtime < 60


def test_an_archive_that_was_never_finished_is_tried_again_the_next_day(cache):
    assert "ArchiveClassesAtExit" in options()
    ago(class_archive({}, "Java 17").with_suffix(".tried"), SECONDS_TO_NEXT_TRY + 60)

    assert "ArchiveClassesAtExit" in options()


def test_archives_of_another_java_or_class_path_are_others_and_go_when_nobody_uses_them(cache):
    assert "ArchiveClassesAtExit" in options()
    assert "ArchiveClassesAtExit" in options("Java 21")
    assert "ArchiveClassesAtExit" in options(extraClassPath="/more.jar")
    assert len(list(cache.iterdir())) == 3
    for file in cache.iterdir():
        ago(file, SECONDS_UNUSED + 60)
    (cache / "spark.log").touch()
    ago(cache / "spark.log", SECONDS_UNUSED + 60)

    assert "ArchiveClassesAtExit" in options("Java 25")

    assert {file.name for file in cache.iterdir()} == {
        class_archive({}, "Java 25").with_suffix(".tried").name,
        "spark.log",
    }


def test_who_gives_options_of_archives_is_left_alone(cache):
    assert options(extraJavaOptions="-Xshare:off") == "-Xshare:off"
    assert options(extraJavaOptions="-Da=b -XX:SharedArchiveFile=/mine") == "-Da=b -XX:SharedArchiveFile=/mine"


def test_a_cache_that_cannot_be_written_costs_the_archive_alone(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert options() == ""


def test_sparks_classes_come_from_the_archive_of_an_earlier_session(monkeypatch, tmp_path):
    fetched = ivy_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ivy_folder().parent.mkdir(parents=True)
    ivy_folder().symlink_to(fetched)
    loaded = tmp_path / "loaded.txt"

    def archived_classes() -> int:
        option = (JAVA_OPTIONS, f"-Xlog:class+load:file={loaded}")
        subprocess.run([sys.executable, "-c", SESSION, *option], check=True)
        lines = [line for line in loaded.read_text().splitlines() if "org.apache.spark.sql." in line]
        return sum("shared objects file" in line for line in lines)

    assert archived_classes() == 0
    until = time.monotonic() + SECONDS_TO_ARCHIVE
    while not any(is_whole(file) for file in ivy_folder().parent.glob("classes-*.jsa")):
        assert time.monotonic() < until, "the JVM made no archive"
        time.sleep(0.5)
    assert archived_classes() > 1000
