import json
import os
import re
import subprocess
import sys

import pytest
from lakevec.jobs.cli import app
from lakevec.jobs.errors import LakevecError
from typer.testing import CliRunner

RUN_KEYS = {
    "files_seen", "documents", "quarantined", "deleted", "chunks", "embedded", "embeddings_reused",
    "loaded", "removed", "seconds", "freshness", "stages",
}  # fmt: skip
HIT_KEYS = {
    "score", "text", "uri", "title", "heading_path", "page", "start", "end", "doc_timestamp", "doc_id",
    "chunk_id",
}  # fmt: skip


@pytest.fixture
def lakevec(lakehouse):
    """Call the command line with the settings of this test's lake."""

    def call(*arguments: str, overrides: tuple[str, ...] = ()):
        more = [word for override in overrides for word in ("--set", override)]
        return CliRunner().invoke(app, [*lakehouse.options, *more, *arguments])

    return call


def test_run_search_and_status_answer_in_json(lakehouse, lakevec):
    lakehouse.write("rules 2024-05-17.txt", "The harbour opens at six in the morning.")

    run = lakevec("--json", "run", "--once")
    assert run.exit_code == 0, run.output
    report = json.loads(run.stdout)
    assert report.keys() == RUN_KEYS
    assert (report["documents"], report["loaded"]) == (1, 1)

    search = lakevec("--json", "search", "When does the harbour open?", "-k", "1", "--since", "2024-01-01")
    assert search.exit_code == 0, search.output
    answer = json.loads(search.stdout)
    assert answer.keys() == {"hits", "partitions_searched", "seconds"}
    (hit,) = answer["hits"]
    assert hit.keys() == HIT_KEYS
    assert (hit["page"], hit["start"], hit["end"]) == (None, 0, 40)
    assert hit["doc_timestamp"] == "2024-05-17T00:00:00+00:00"

    status = json.loads(lakevec("--json", "status").stdout)
    assert status.keys() == {
        *("tables", "collection", "partitions", "quarantined", "lag_seconds"),
        *("freshness", "held_back"),
    }
    assert status["partitions"] == {"2024": {"milvus_rows": 1, "lake_rows": 1, "state": "equal"}}
    assert status["lag_seconds"] == {"ingest": 0, "chunk": 0, "embed": 0, "load": 0}

    words = lakevec("search", "When does the harbour open?")
    assert "characters 0-40, 2024-05-17, score" in words.stdout


@pytest.mark.slow
def test_the_stages_run_one_by_one(lakehouse, lakevec):
    lakehouse.write("a.txt", "The harbour opens at six.")

    for stage in ("ingest", "chunk", "embed", "load"):
        report = json.loads(lakevec("--json", stage, "--once").stdout)
        assert set(report["stages"]) == {stage}

    assert report["loaded"] == 1
    assert re.fullmatch(r"0 chunks written; [\d.]+ s\n", lakevec("chunk", "--once").stdout)


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        (("chunk.tokens=384",), ("run",), "chunk.tokens is 384, but the model"),
        (("chunk.tokns=1",), ("run",), "Did you mean chunk.tokens?"),
        (("model.name=/nowhere/at/all",), ("run",), "/nowhere/at/all"),
        ((), ("search", "x", "--since", "yesterday"), "--since yesterday: expected a date"),
        ((), ("search", "x", "--since", "2025-01-01", "--until", "2024-01-01"), "is not before --until"),
        ((), ("server", "start"), "has no local server to start"),
        (("source.path=",), ("run",), "source.path is not set"),
        ((), ("frobnicate",), "No such command"),
        ((), ("run", "--once", "--continuous"), "give one of them"),
        ((), ("search",), "Missing argument"),
        ((), ("tune", "--seed", "-1"), "Invalid value for '--seed'"),
        (("tune.target_recall=1",), ("tune",), "tune.target_recall"),
    ],
)
def test_wrong_usage_is_status_2_and_says_why(lakevec, overrides, arguments, message):
    result = lakevec(*arguments, overrides=overrides)

    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")


def test_a_failure_is_status_1_and_one_json_object(lakehouse, lakevec):
    lakehouse.source.rename(lakehouse.source.with_name("unmounted"))

    result = lakevec("--json", "run", "--once")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == "SourceError"
    assert "does not exist" in result.stderr


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("partition.granularity", "day"),
        ("chunk.strategy", "fixed"),
        ("chunk.overlap", "7"),
        ("model.dtype", "int8"),
    ],
)
def test_a_lake_keeps_what_it_was_made_with(lakehouse, lakevec, setting, wanted):
    lakehouse.run(("ingest",))

    result = lakevec("run", overrides=(f"{setting}={wanted}",))

    assert result.exit_code == 2
    assert f"{setting} is {wanted}, but this lake was made with" in result.stderr


def test_without_java_it_says_how_to_get_it(tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "JAVA_HOME": ""}
    command = [sys.executable, "-m", "lakevec.jobs.cli", "--set", f"source.path={tmp_path}"]
    command += ["--set", f"lake.path={tmp_path}/lake", "ingest"]

    result = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert result.returncode == 2
    assert "Spark needs Java" in result.stderr
    assert "apt install" in result.stderr


def failing(monkeypatch, error: BaseException):
    """A command line whose search fails with `error`."""

    def search(*_):
        raise error

    monkeypatch.setattr("lakevec.jobs.search.search", search)
    return CliRunner().invoke(app, ["--set", "lake.path=/nowhere", "--json", "search", "x"])


def test_an_error_that_nobody_foresaw_is_one_json_object_and_its_stack_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    result = failing(monkeypatch, RuntimeError("\nfirst line\nsecond line"))
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"error": "RuntimeError", "message": "first line"}
    kept = tmp_path / "lakevec" / "failure.log"
    assert result.stderr == f"lakevec: first line (RuntimeError). Its stack is in {kept}.\n"
    assert kept.read_text().startswith("Traceback")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hidden@there/db",
        "postgresql://me:hid/hidden@there/db",
        "http:/me:hidden@there",
        "http://there?password=hidden",
        "http://there?a=b&token=hidden",
    ],
)
@pytest.mark.parametrize("kind", [RuntimeError, LakevecError])
def test_an_error_shows_and_keeps_no_secret_of_an_address(monkeypatch, tmp_path, address, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "lakevec" / "failure.log"

    result = failing(monkeypatch, kind(f"no answer from {address}"))

    kept = file.read_text() if file.exists() else ""
    assert file.exists() == (kind is RuntimeError)
    assert "no answer from" in json.loads(result.stdout)["message"]
    assert "there" in result.stderr
    assert "hidden" not in result.stdout + result.stderr + kept


def test_an_interrupted_command_ends_quietly_with_status_130(monkeypatch):
    result = failing(monkeypatch, KeyboardInterrupt())

    assert (result.exit_code, result.output) == (130, "")


def test_the_local_server_is_started_asked_and_stopped(tmp_path):
    def server(action: str) -> dict:
        result = CliRunner().invoke(app, ["--set", f"lake.path={tmp_path / 'lake'}", "--json", "server", action])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    before, started, running, stopped = (server(action) for action in ("status", "start", "status", "stop"))

    assert before == {"state": "stopped", "uri": None, "data_path": f"{tmp_path / 'lake'}-milvus", "pid": None}
    assert started["state"] == "running"
    assert started["uri"].startswith("http://127.0.0.1:")
    assert running == started
    assert stopped == before
