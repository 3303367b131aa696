import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from lakevec.jobs.errors import ConfigurationError, LakevecError
from lakevec.jobs.settings import Mlflow
from lakevec.jobs.tuning.champion import read_registered
from lakevec.jobs.tuning.grid import Setting
from lakevec.jobs.tuning.store import StoreError
from lakevec.jobs.tuning.tracking import commit, store_for, sweep
from structlog.testing import capture_logs


def mlflow(**values) -> Mlflow:
    return Mlflow.model_validate(values)


def test_sweeps_have_an_experiment_of_their_own_with_its_files_beside_the_lake():
    store = store_for(mlflow(), "/data/lake")
    assert store.uri == "sqlite:////data/lake-mlflow.db"
    assert store.experiment == "lakevec-tune"
    assert store.artifacts == "file:///data/lake-mlflow-artifacts"
    assert store_for(mlflow(tracking_uri="http://there"), "s3://b/lake").artifacts is None
    assert store_for(mlflow(tracking_uri="sqlite:////a/runs.db"), "/data/lake").artifacts == "file:///a/runs-artifacts"
    postgres = store_for(mlflow(tracking_uri="postgresql://there/db"), "/data/lake")
    assert postgres.artifacts == "file:///data/lake-mlflow-artifacts"


@pytest.mark.parametrize(
    ("settings", "lake", "message"),
    [(mlflow(experiment=""), "/lake", "experiment is empty"), (mlflow(), "s3://b/lake", "Set mlflow.tracking_uri")],
)
def test_without_a_store_there_is_no_sweep(settings, lake, message):
    with pytest.raises(ConfigurationError, match=message):
        store_for(settings, lake)


def test_a_store_that_fails_is_told_without_secrets(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = store_for(mlflow(tracking_uri="http://me:secret@127.0.0.1:1"), "/lake")
    with pytest.raises(LakevecError, match=r"cannot be logged: .*127\.0\.0\.1") as logged, sweep(store, "s", {}, {}):
        pass
    with pytest.raises(LakevecError, match=r"could not be read .*127\.0\.0\.1") as read:
        read_registered(store, "docs", "applied")
    assert "secret" not in f"{logged.value} {read.value}"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "postgresql://me:secret@there/db",
            r"postgresql://there/db cannot be used.*pip install 'psycopg(2-binary|\[binary\])'",
        ),
        ("mysql+pymysql://me:secret@there/db", r"pip install 'pymysql'"),
        ("sqlite:////proc/nowhere/runs.db", r"sqlite:////proc/nowhere/runs.db cannot be used.*See mlflow.tracking_uri"),
        ("gopher://there", r"gopher://there cannot be used.*See mlflow.tracking_uri"),
    ],
)
def test_a_store_that_cannot_be_reached_costs_nothing_and_says_what_to_do(uri, message):
    with (
        pytest.raises(StoreError, match=message) as told,
        sweep(store_for(mlflow(tracking_uri=uri), "/lake"), "s", {}, {}),
    ):
        pass
    assert "Nothing was built" in str(told.value)
    assert "secret" not in str(told.value)


def test_a_store_that_goes_away_ends_a_sweep_with_what_the_block_raised(tmp_path):
    store = store_for(mlflow(tracking_uri=f"sqlite:///{tmp_path}/a/runs.db"), "/lake")

    def away(*_):
        raise OSError("away")

    def work():
        with sweep(store, "s", {}, {}) as run:
            run.client.client = SimpleNamespace(set_terminated=away)
            raise KeyError("of the block")

    with capture_logs() as lines, pytest.raises(KeyError, match="of the block"):
        work()
    assert [line["event"] for line in lines] == ["tune.run_not_ended"]


def test_a_sweep_ends_those_of_its_lake_that_were_killed_and_no_others(tmp_path):
    store = store_for(mlflow(tracking_uri=f"sqlite:///{tmp_path}/runs.db"), "/lake")
    with sweep(store, "first", {}, {"lake": "a"}) as first, sweep(store, "other", {}, {"lake": "b"}) as other:
        with sweep(store, "second", {}, {"lake": "a"}) as second:
            pass
        status = [second.client.get_run(each.run_id).info.status for each in (first, other, second)]
    assert status == ["KILLED", "RUNNING", "FINISHED"]


def test_nothing_but_the_answer_goes_to_stdout_where_a_store_is_a_server(tmp_path, capsys):
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/runs.db", "--artifacts-destination", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        store = store_for(mlflow(tracking_uri=f"http://me:secret@127.0.0.1:{port}"), "/lake")
        until = time.monotonic() + 180
        while not answers(port):
            assert time.monotonic() < until
            assert server.poll() is None
            time.sleep(0.2)
        with sweep(store, "s", {}, {}) as run:
            run.child(Setting("FLAT"), {}, {}, None)
            assert run.client.get_run(run.run_id).info.status == "RUNNING"
        logging.getLogger("mlflow.store").warning("no answer of %s", store.uri)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    told = capsys.readouterr()
    assert told.out == ""
    assert f"no answer of http://127.0.0.1:{port}" in told.err
    assert "secret" not in told.err


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_the_commit_is_lakevec_s_own(monkeypatch, tmp_path):
    here = Path(__file__).parents[3]
    head = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert commit() == (head.stdout.strip() if head.returncode == 0 else None)
    # Within somebody's repository, but none of its files.
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "tracking.py").write_text("")
    monkeypatch.setattr("lakevec.jobs.tuning.tracking.__file__", str(tmp_path / "tracking.py"))
    assert commit() is None
