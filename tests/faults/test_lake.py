"""The lake's own state is damaged, old, or wanted by two at a time."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lakevec.jobs.errors import LakeBusyError, LakevecError
from lakevec.jobs.lake.migration import VERSION
from lakevec.jobs.lake.tables import METRICS, SCHEMA_VERSION, TABLES
from lakevec.jobs.status import status

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def test_a_second_run_stops_at_once_and_the_death_of_the_first_frees_the_lake(faulty, tmp_path):
    faulty.prepare()
    first = faulty.process("a run that takes its time", "run", "--once", FAULT_SECONDS="600")
    while "lingering" not in (tmp_path / "stderr").read_text() and first.poll() is None:
        time.sleep(0.05)

    begun = time.monotonic()
    with pytest.raises(LakeBusyError, match=f"process {first.pid} on "):
        faulty.lakehouse.run()
    assert time.monotonic() - begun < 2
    status(faulty.lakehouse.settings)
    first.kill()
    first.communicate()

    faulty.recover("two runs at the same time", "the first killed after the second was refused")


@pytest.mark.parametrize("what", ["last commits", "checkpoint"])
def test_lost_checkpoints_lose_nothing(faulty, what):
    faulty.prepare()
    faulty.lakehouse.run()
    checkpoints = Path(faulty.lakehouse.settings.lake.path) / "_checkpoints"
    faulty.page("p0", "something else again", 2023)
    faulty.remove("p4")
    faulty.lakehouse.run(("ingest",))

    for stage in checkpoints.iterdir():
        if what == "checkpoint":
            shutil.rmtree(stage)
            continue
        last = max((file for file in (stage / "commits").iterdir() if file.name.isdigit()), key=lambda f: int(f.name))
        last.unlink()

    faulty.recover(f"{what} deleted", "of each stage, with a deletion on its way")


def test_a_clock_that_is_set_back_hides_no_change(faulty):
    faulty.prepare()

    answer = faulty.strike("clock set back by a day", "run", "--once", status=0)

    assert (answer["documents"], answer["deleted"]) == (3, 1)
    # What is written meanwhile bears times that have been.
    faulty.page("p0", "something else again", 2023)
    faulty.remove("p4")
    report = faulty.recover("clock set back by a day", "of the driver, when it lists", answer["seconds"])
    assert (report.documents, report.deleted) == (1, 1)


def test_a_clock_that_is_set_back_stops_no_continuous_run(faulty, tmp_path):
    """Needs a C compiler: nothing else reaches the JVM's clock."""
    off, clock = tmp_path / "off", tmp_path / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", clock, Path(__file__).with_name("clock.c")], check=True)
    off.write_text("0")
    faulty.page("p0", "something")
    process = faulty.process(None, "run", "--continuous", LD_PRELOAD=str(clock), CLOCK_OFF=str(off))

    def wait_until_found(sentences: int) -> None:
        begun = time.monotonic()
        while faulty.sentences_in_milvus(faulty.lakehouse.settings.milvus.uri).total() != sentences:
            assert process.poll() is None, (tmp_path / "stderr").read_text()[-6000:]
            assert time.monotonic() - begun < 200
            time.sleep(0.5)

    wait_until_found(1)
    off.write_text(str(-2 * 3600))
    # What waited for a time of the clock has it before it.
    time.sleep(3)
    begun = time.monotonic()
    faulty.page("p1", "something new")
    wait_until_found(2)
    seconds = time.monotonic() - begun
    process.send_signal(signal.SIGTERM)
    answer = faulty.ended(process, 0)

    assert answer["documents"] == 2
    faulty.recover("clock set back by two hours in a continuous run", "of the driver and its JVM", seconds)


@pytest.mark.quick
def test_a_lake_of_an_older_lakevec_is_migrated_by_a_run_and_by_no_reader(faulty):
    faulty.prepare()
    tables = faulty.lakehouse.lake().tables
    for table in TABLES:
        tables.set_property(table, VERSION, "1")
    shutil.rmtree(f"{tables.path}/{METRICS.name}")

    with pytest.raises(LakevecError, match="made by an older lakevec"):
        status(faulty.lakehouse.settings)

    faulty.recover("a lake of version 1", "properties set back, a table deleted")
    assert {tables.properties(table)[VERSION] for table in TABLES} == {SCHEMA_VERSION}
