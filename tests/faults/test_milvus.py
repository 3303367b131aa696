"""Milvus is stopped or killed before, during and after a load, and comes back, whole or empty."""

import os
import shutil
import signal
import time

import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.vectors import server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def test_a_server_that_is_away_before_a_load_stops_the_run_and_the_next_goes_on(faulty, own_server):
    faulty.prepare()
    server.stop(own_server)

    with pytest.raises(MilvusError, match="No connection to Milvus"):
        faulty.lakehouse.run()
    server.start(own_server)

    report = faulty.recover("Milvus stopped before a load", "server stop; start before the next run")
    assert (report.documents, report.embedded) == (0, 0)


@pytest.mark.parametrize(
    "fault", ["server killed while rows are patched", "server killed before the routes are switched"]
)
def test_a_load_outlasts_a_server_that_is_killed_and_comes_back(faulty, own_server, fault):
    faulty.prepare()

    answer = faulty.strike(fault, "run", "--once", status=0, FAULT_SERVER_FOLDER=str(own_server))

    faulty.recover(
        f"Milvus: {fault}", "SIGKILL, back after 3 s; the run itself goes on", answer["stages"]["load"]["seconds"]
    )


def test_an_import_that_its_server_did_not_survive_is_begun_anew_by_the_next_run(faulty, own_server, tmp_path):
    faulty.set("load.build_rows=0", "load.build_share=0", f"load.staging={tmp_path / 'staging'}")
    faulty.prepare()
    fault = "server killed while imports run"

    process = faulty.process(fault, "run", "--once", FAULT_SERVER_FOLDER=str(own_server))
    out, _ = process.communicate()
    # The import may have been through, or been taken up again.
    assert process.returncode in (0, 1), out
    assert process.returncode == 0 or "MilvusError" in out
    assert (faulty.folder / "struck").exists()

    faulty.recover(f"Milvus: {fault}", f"SIGKILL, back after 3 s; the run ended with {process.returncode}")


def test_a_continuous_run_starts_its_packaged_server_again(faulty, tmp_path):
    faulty.set("milvus.uri=standalone")
    folder = server.server_folder(faulty.lakehouse.settings.lake.path)
    faulty.page("p0", "something")
    process = faulty.process(None, "run", "--continuous")

    def wait_until_found(sentences: int) -> None:
        while faulty.sentences_in_milvus(server.status(folder).uri).total() != sentences:
            assert process.poll() is None, (tmp_path / "stderr").read_text()[-6000:]
            time.sleep(0.5)

    wait_until_found(1)
    first = server.running(folder)
    os.kill(first.pid, signal.SIGKILL)
    begun = time.monotonic()
    faulty.page("p1", "something new", 2023)
    wait_until_found(2)
    seconds = time.monotonic() - begun
    assert server.running(folder).pid != first.pid
    process.send_signal(signal.SIGTERM)
    faulty.ended(process, 0)
    assert server.running(folder) is None

    faulty.recover("Milvus: packaged server of a continuous run killed", f"SIGKILL; found again after {seconds:.0f} s")


def test_a_server_that_comes_back_after_a_load_has_all_of_it(faulty, own_server):
    faulty.prepare()
    faulty.lakehouse.run()

    server.stop(own_server)
    faulty.set(f"milvus.uri={server.start(own_server).uri}")

    faulty.recover("Milvus stopped after a load", "server stop, start")


@pytest.mark.quick
def test_a_server_that_comes_back_empty_is_filled_without_embedding_again(faulty, own_server):
    faulty.prepare()
    faulty.lakehouse.run()

    server.stop(own_server)
    shutil.rmtree(own_server / "data")
    faulty.set(f"milvus.uri={server.start(own_server).uri}")

    report = faulty.recover("Milvus came back empty", "its data folder deleted")
    assert (report.embedded, report.loaded) == (0, 4)
