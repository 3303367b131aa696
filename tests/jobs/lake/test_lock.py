import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from lakevec.jobs.errors import ConfigurationError, LakeBusyError, LakevecError
from lakevec.jobs.lake import lease
from lakevec.jobs.lake.lease import Lease, leased
from lakevec.jobs.lake.lock import STAGES, Holder, locked
from lakevec.jobs.lake.tables import LOCKS, LakeTables
from lakevec.jobs.run import run_once
from lakevec.jobs.settings import load_settings

# It starts a child of its own, as the JVM and the Milvus server are, and never ends.
HOLDER = """
import subprocess, sys, time
from lakevec.jobs.lake.lock import locked
from lakevec.jobs.settings import load_settings
with locked(load_settings("local", [f"lake.path={sys.argv[1]}"], {}), "run", makes_lake=True):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "source").mkdir()
    return load_settings("local", [f"lake.path={tmp_path / 'lake'}", f"source.path={tmp_path / 'source'}"], {})


def test_a_second_run_stops_at_once_and_names_the_first_whose_death_frees_the_lock(settings):
    (first := subprocess.Popen([sys.executable, "-c", HOLDER, settings.lake.path], stdout=subprocess.PIPE, text=True))
    assert first.stdout
    child = int(first.stdout.readline())
    try:
        begun = time.monotonic()
        for stages in (STAGES, ("load",)):
            with pytest.raises(LakeBusyError, match=rf"`lakevec run`, process {first.pid} on .*, since 20"):
                run_once(settings, stages)
        # Before Spark, which takes seconds to start.
        assert time.monotonic() - begun < 2
        first.kill()
        first.wait()
        with locked(settings, "run"):
            pass
    finally:
        first.kill()
        subprocess.run(["kill", str(child)], check=True)


def test_different_stages_work_at_the_same_time_and_a_refused_command_keeps_none(settings):
    with locked(settings, "ingest", ["ingest"], makes_lake=True):
        with (
            locked(settings, "load", ["load"]),
            pytest.raises(LakeBusyError, match="the stage load"),
            # It has taken two before it is refused the third.
            locked(settings, "forget", ["load", "embed", "chunk"]),
        ):
            raise AssertionError("both hold it")
        with locked(settings, "forget", ["chunk", "embed", "load"]):
            pass


def test_where_there_is_no_lake_none_is_begun(settings, tmp_path):
    for stages in (["load"], STAGES):
        with pytest.raises(ConfigurationError, match="There is no lake"), locked(settings, "forget", stages):
            raise AssertionError("it was begun")
    assert not (tmp_path / "lake").exists()


@contextmanager
def elsewhere(zone: str) -> Iterator[None]:
    """In another time zone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


def test_of_two_that_take_a_lease_at_once_one_gets_it_and_it_is_taken_over_when_it_ran_out(
    spark, tmp_path, monkeypatch
):
    tables = LakeTables(spark, str(tmp_path / "lake"))
    leases = [Lease(tables, STAGES, Holder(f"run {number}")) for number in range(2)]

    def take(one: Lease) -> Lease | None:
        try:
            one.take()
        except LakeBusyError:
            return None
        return one

    with ThreadPoolExecutor(2) as pool:
        [first] = filter(None, pool.map(take, leases))
    owners = {row["owner"] for row in tables.read(LOCKS).collect()}
    assert owners == {first.owner}
    since = re.escape(first.holder.since)
    with (
        elsewhere("Asia/Kathmandu"),
        pytest.raises(LakeBusyError, match=rf"`lakevec {first.holder.command}`, process \d+ on .*, since {since}"),
    ):
        Lease(tables, ["embed"], Holder("embed")).take()

    # It dies without a word.
    monkeypatch.setattr(lease, "LEASE_SECONDS", -1.0)
    assert first.renew()
    monkeypatch.undo()
    second = Lease(tables, ["embed"], Holder("embed"))
    second.take()
    assert not first.renew()
    second.release()
    first.release()
    assert tables.read(LOCKS).isEmpty()


def test_a_lease_is_renewed_while_its_holder_works_who_is_interrupted_when_it_is_lost(spark, tmp_path, monkeypatch):
    tables = LakeTables(spark, str(tmp_path / "lake"))
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)

    def ends() -> set:
        return {row["until"] for row in tables.read(LOCKS).collect()}

    def work() -> None:
        with leased(tables, STAGES, Holder("run"), makes_lake=True):
            before = ends()
            while ends() == before:
                pass
            tables.delta(LOCKS).delete()
            time.sleep(60)

    # Nothing shall be made that looks like a lake.
    with leased(tables, ["ingest"], Holder("retry")):
        assert not tables.exists(LOCKS)
    begun = time.monotonic()
    with pytest.raises(LakevecError, match="The lease on this lake ran out"):
        work()
    assert time.monotonic() - begun < 60
