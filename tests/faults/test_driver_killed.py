"""The driver is killed with SIGKILL: inside each stage, between them, around each thing that it commits."""

import pytest

quick = pytest.mark.quick
BUILD = ("load.build_rows=0", "load.build_share=0")


@pytest.mark.faults
@pytest.mark.parametrize(
    "fault",
    [
        "ingest: deleted documents gone, their files not",
        pytest.param("ingest: documents written, files not", marks=quick),
        "ingest: all written, checkpoint not",
        "before chunk",
        "chunk: read, not written",
        "chunk: written, checkpoint not",
        "before embed",
        "embed: vectors written, embeddings not",
        "embed: written, checkpoint not",
        "before load",
        "load: patched, routes not switched",
        "after load",
    ],
)
def test_a_killed_run_loses_and_doubles_nothing(faulty, fault):
    faulty.prepare()

    faulty.strike(fault, "run", "--once")

    faulty.recover(f"driver killed, {fault}", "SIGKILL")


@pytest.mark.faults
@pytest.mark.parametrize(
    "fault",
    [
        "load: imports submitted",
        "load: imports under way",
        "load: imports ended",
        "load: routes switched, old generation there",
    ],
)
def test_a_killed_build_loses_and_doubles_nothing(faulty, fault, tmp_path):
    faulty.set(*BUILD, f"load.staging={tmp_path / 'staging'}")
    faulty.prepare()

    faulty.strike(fault, "run", "--once")

    faulty.recover(f"driver killed, {fault}", "SIGKILL, every range built")


@pytest.mark.faults
def test_what_a_killed_forget_began_the_next_run_completes(faulty):
    faulty.prepare()
    faulty.lakehouse.run()
    fault = "forget: kept away, its documents there"

    faulty.strike(fault, "forget", "p4.md")
    del faulty.sentences["p4"]

    report = faulty.recover(f"driver killed, {fault}", "SIGKILL")
    assert (report.deleted, report.removed) == (1, 1)
