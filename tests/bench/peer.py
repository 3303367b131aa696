"""Other systems that do the same, each in an environment of its own, never among lakevec's dependencies."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
# Jiffies of all processors: user, nice, system.
CPU_FIELDS = slice(1, 4)
# Nothing is fetched, nor told to anyone.
QUIETLY = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Ran:
    """What a process cost. cpu_seconds: of the whole machine while it ran, a server's part of the work included."""

    seconds: float
    cpu_seconds: float
    answer: dict[str, Any]


def environment(name: str, folder: Path = Path(".lakevec/peers")) -> Path:
    """The Python of an environment with what peers/NAME.txt lists, made by uv when it is first asked for."""
    wanted, place = PEERS / f"{name}.txt", folder.absolute() / name
    complete = place / "complete"
    if not complete.is_file() or complete.read_text() != wanted.read_text():
        # The virtual environment of the tests has no uv; the Python that it was made from may.
        uv = ["uv"] if shutil.which("uv") else [sys._base_executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True)
        # Compiled, as lakevec's own environment is after its first run.
        install = ["pip", "install", "--quiet", "--compile-bytecode", "--python", place / "bin" / "python"]
        subprocess.run([*uv, *install, "-r", wanted], check=True)
        complete.write_text(wanted.read_text())
    return place / "bin" / "python"


def timed(command: Sequence[str | Path]) -> Ran:
    """Run a program that ends with a line of JSON."""
    cpu, begun = cpu_seconds(), time.monotonic()
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env={**os.environ, **QUIETLY}
    )
    seconds, cpu = time.monotonic() - begun, cpu_seconds() - cpu
    assert done.returncode == 0, done.stderr[-4000:]
    return Ran(seconds, cpu, json.loads(done.stdout.strip().splitlines()[-1]))


def cpu_seconds() -> float:
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return sum(map(int, fields[CPU_FIELDS])) / os.sysconf("SC_CLK_TCK")
