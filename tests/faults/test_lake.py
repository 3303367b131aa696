"""The lake's own state is damaged, old, or wanted by two at a time."""

import shutil
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
