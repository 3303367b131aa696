import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lakevec.jobs.lake.class_archive import JAVA_OPTIONS, MOST_ARCHIVES, SECONDS_TO_NEXT_TRY, with_class_archive
from lakevec.jobs.lake.jars import ivy_folder

SESSION = """
import sys
from lakevec.jobs.lake.session import spark_session
from lakevec.jobs.settings import load_settings

settings = load_settings("local", ["spark.master=local[1]", f"spark.conf.{sys.argv[1]}={sys.argv[2]}"])
spark_session(settings.spark, keeps_classes=True).range(3).count()
"""
SECONDS_TO_ARCHIVE = 120
MAKE, USE = '"-XX:ArchiveClassesAtExit=', '"-XX:SharedArchiveFile='


@pytest.fixture
def fetched_jars() -> Path:
    """Of the user's own cache: asked for before `cache`."""
    return ivy_folder()


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "lakevec"


def options(given: str | None = "-Da=b", java: str = "17", makes_one: bool = True, **conf: str) -> str | None:
    before = {f"spark.driver.{name}": value for name, value in conf.items()}
    if given is not None:
        before[JAVA_OPTIONS] = given
    after = with_class_archive(before, java, makes_one)
    assert {**after, JAVA_OPTIONS: ""} == {**before, JAVA_OPTIONS: ""}
    return after.get(JAVA_OPTIONS)


def named(option: str | None) -> Path:
    """The archive that an option names."""
    assert option
    return Path("/" + option.partition("=/")[2].partition('"')[0])


def made(java: str = "17") -> Path:
    """An archive as the JVM leaves it."""
    archive = named(options("", java))
    archive.write_bytes(b"\xa8\xab\x0b\xf0")
    return archive


def ago(file: Path, seconds: float) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


def test_one_session_makes_the_archive_and_later_ones_use_it(cache):
    assert options(makes_one=False) == "-Da=b"
    option = options()
    archive = named(option)
    assert option == f'-Da=b {MAKE}{archive}" -Xlog:cds=error'
    assert archive.parent == cache
    # Another one is making it.
    assert options() == "-Da=b"
    archive.write_bytes(bytes(8))
    assert options() == "-Da=b"

    archive.write_bytes(b"\xa8\xab\x0b\xf0")
    ago(archive, 3600)

    assert options(makes_one=False) == f'-Da=b {USE}{archive}" -XX:+VerifySharedSpaces'
    assert time.time() - archive.stat().st_mtime < 60


def test_an_archive_that_was_never_finished_is_tried_again_the_next_day(cache):
    archive = named(options())
    ago(archive.with_suffix(".tried"), SECONDS_TO_NEXT_TRY + 60)

    assert MAKE in options()


def test_another_java_memory_or_class_path_has_another_archive(cache, monkeypatch):
    archive = made()
    assert named(options(java="21")) != archive
    assert named(options("-XX:+UseZGC")) != archive
    assert named(options(memory="40g")) != archive
    assert named(options(extraClassPath="/more.jar")) != archive
    assert named(options("-XX:TieredStopAtLevel=1", makes_one=False)) == archive
    monkeypatch.setenv("SPARK_DIST_CLASSPATH", "/hadoop/*")
    assert named(options()) != archive


def test_the_archives_that_were_used_last_stay(cache):
    archives = [made(str(java)) for java in range(17, 17 + MOST_ARCHIVES)]
    for number, archive in enumerate(archives):
        ago(archive, 60 * (MOST_ARCHIVES - number))
    # By which it becomes the one that was used last.
    assert USE in options(java="17")

    made("25")

    assert {file.name for file in cache.glob("*.jsa")} == {
        archive.name for archive in (archives[0], *archives[2:], named(options(java="25")))
    }


@pytest.mark.parametrize("own", ["-Xshare:off", "'-XX:SharedArchiveFile=/my archive'", '-Da="'])
def test_who_gives_options_of_archives_is_left_alone(cache, own):
    assert options(f"-Da=b {own}") == f"-Da=b {own}"


def test_options_that_spark_finds_elsewhere_are_left_alone(cache, monkeypatch):
    # Those of spark-defaults.conf hold only where lakevec gives none.
    assert options(None) is None
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xshare:off")
    assert options() == "-Da=b"


def test_no_archive_is_tried_where_none_can_be_made(cache, monkeypatch, tmp_path):
    (tmp_path / "conf").mkdir()
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path / "conf"))
    (tmp_path / "conf" / "spark-defaults.conf").touch()
    assert options() == "-Da=b"
    monkeypatch.delenv("SPARK_CONF_DIR")
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert options() == "-Da=b"
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT")
    cache.parent.touch()
    assert options() == "-Da=b"
    cache.parent.unlink()

    assert MAKE in options()


def test_sparks_classes_come_from_the_archive_of_an_earlier_session(fetched_jars, cache):
    cache.mkdir(parents=True)
    ivy_folder().symlink_to(fetched_jars)
    loaded = cache / "loaded.txt"

    def archived_classes() -> int:
        option = (JAVA_OPTIONS, f'"-Xlog:class+load:file={loaded}"')
        subprocess.run([sys.executable, "-c", SESSION, *option], check=True)
        lines = [line for line in loaded.read_text().splitlines() if "org.apache.spark.sql." in line]
        return sum("shared objects file" in line for line in lines)

    assert archived_classes() == 0
    until = time.monotonic() + SECONDS_TO_ARCHIVE
    while not any(any(file.read_bytes()[:4]) for file in cache.glob("classes-*.jsa")):
        assert time.monotonic() < until, "the JVM made no archive"
        time.sleep(0.5)
    assert archived_classes() > 1000
