"""What runs on executors dies: the executor, a Python worker, a parser."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def descendants(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [one for child in map(int, found) for one in (child, *descendants(child))]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("victim", "sign"),
    [("an executor", "CoarseGrainedExecutorBackend"), ("all Python workers", "pyspark.daemon")],
)
def test_what_dies_while_it_embeds_is_replaced_and_the_run_goes_on(faulty, tmp_path, victim, sign):
    # Each page is one passage; the first piece of two tasks has 64, those behind it take a second each.
    for number in range(160):
        faulty.page(f"p{number}", " ".join(f"word{n * number}" for n in range(60)), 2020 + number % 3)
    process = faulty.process(
        None,
        *("--set", "spark.master=local-cluster[2,1,2048]", "--set", "spark.conf.spark.executor.memory=2g"),
        *("--set", "embed.piece_seconds=1", "run", "--once"),
    )
    words = tmp_path / "stderr"
    while "embed.progress" not in words.read_text() and process.poll() is None:
        time.sleep(0.05)

    victims = [pid for pid in descendants(process.pid) if sign in command_of(pid)]
    assert victims
    for pid in victims if victim.startswith("all") else victims[-1:]:
        # Some end with the one that they came from.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert "embed.done" not in words.read_text()

    answer = faulty.ended(process, 0)
    faulty.recover(f"{victim} killed while it embeds", "SIGKILL on local-cluster", answer["stages"]["embed"]["seconds"])


@pytest.mark.quick
def test_documents_that_kill_their_parser_cost_themselves_alone(faulty):
    for name, content in {
        "exit.txt": "POISON exit",
        "segfault.md": "POISON segfault",
        "loop.html": "POISON loop",
        "hunger.txt": "POISON hunger",
    }.items():
        faulty.lakehouse.write(name, content)
    faulty.page("p0", "something")
    faulty.set("parse.timeout_seconds=10", "parse.memory_mb=512")

    process = faulty.process(
        None, "run", "--once", PYTHONPATH=str(Path(__file__).parent / "in_processes"), FAULT_IN_PROCESSES="poison"
    )

    answer = faulty.ended(process, 0)
    assert (answer["documents"], answer["quarantined"]) == (1, 4)
    reasons = {row["uri"].rpartition("/")[2]: row["error_class"] for row in quarantine(faulty)}
    assert reasons == {
        "exit.txt": "ParserCrashed",
        "segfault.md": "ParserCrashed",
        "loop.html": "ParserTimeout",
        "hunger.txt": "ParserOutOfMemory",
    }
    faulty.recover("documents that kill their parser", "os._exit, segfault, endless loop, 8 GiB", answer["seconds"])


def quarantine(faulty):
    return faulty.lakehouse.lake().tables.quarantine().collect()
