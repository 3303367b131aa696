"""`lakevec`, with one fault: `python driver.py FAULT LOG argument...` calls the command line with these arguments.

The fault strikes before or after the n-th call of one function of lakevec, which is named in FAULTS and
nowhere else; that it struck is written to the file LOG. So no hook stands in lakevec itself.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from lakevec.jobs.cli import main
from lakevec.jobs.lake.tables import Table


@dataclass(frozen=True)
class Fault:
    """Where and how. target: "module:name" or "module:Class.name", as the caller looks it up. of: only calls with
    this table count."""

    when: Literal["before", "after"]
    target: str
    call: int = 1
    of: str | None = None
    does: str = "die"


FAULTS = {
    # the driver's death: inside the stages
    "ingest: deleted documents gone, their files not": Fault("after", "lakevec.jobs.ingest:apply", of="documents"),
    "ingest: documents written, files not": Fault("after", "lakevec.jobs.ingest:apply", call=2, of="documents"),
    "ingest: all written, checkpoint not": Fault("after", "lakevec.jobs.ingest:apply", call=2, of="files"),
    "chunk: read, not written": Fault("before", "lakevec.jobs.chunk:apply", of="chunks"),
    "chunk: written, checkpoint not": Fault("after", "lakevec.jobs.chunk:apply", of="chunks"),
    "embed: vectors written, embeddings not": Fault(
        "after", "lakevec.jobs.lake.tables:LakeTables.append", of="vectors"
    ),
    "embed: written, checkpoint not": Fault("after", "lakevec.jobs.embed:apply", of="embeddings"),
    "load: imports submitted": Fault("before", "lakevec.jobs.vectors.build:wait_for_imports"),
    "load: imports under way": Fault("after", "lakevec.jobs.vectors.imports:Imports.state", call=2),
    "load: imports ended": Fault("after", "lakevec.jobs.vectors.build:wait_for_imports"),
    "load: patched, routes not switched": Fault("before", "lakevec.jobs.load:publish"),
    "load: routes switched, old generation there": Fault("after", "lakevec.jobs.load:publish"),
    # and at their boundaries
    "before chunk": Fault("before", "lakevec.jobs.run:chunk"),
    "before embed": Fault("before", "lakevec.jobs.run:embed"),
    "before load": Fault("before", "lakevec.jobs.run:load"),
    "after load": Fault("after", "lakevec.jobs.run:load"),
    "forget: kept away, its documents there": Fault("after", "lakevec.jobs.forget:apply", of="files"),
    # the server's
    "server killed while rows are patched": Fault(
        "before", "lakevec.jobs.carry_out:patch_ranges", does="restart_server"
    ),
    "server killed while imports run": Fault(
        "before", "lakevec.jobs.vectors.build:wait_for_imports", does="restart_server"
    ),
    "server killed before the routes are switched": Fault("before", "lakevec.jobs.load:publish", does="restart_server"),
    # the source's
    "source unmounted while it is read": Fault("before", "lakevec.jobs.ingest:task_count", does="unmount_source"),
    # the clock's
    "clock set back by a day": Fault("before", "lakevec.jobs.ingest:list_now", does="set_clock_back"),
    # nothing but time, for a second command to come
    "a run that takes its time": Fault("before", "lakevec.jobs.run:chunk", does="linger"),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def restart_server() -> None:
    """Kill the server of FAULT_SERVER_FOLDER; it comes back by itself some seconds later."""
    from lakevec.jobs.vectors import server

    folder = Path(os.environ["FAULT_SERVER_FOLDER"])
    record = server.running(folder)
    assert record
    os.kill(record.pid, signal.SIGKILL)

    def bring_back() -> None:
        while server.running(folder):
            time.sleep(0.05)
        time.sleep(3)
        server.start(folder)

    threading.Thread(target=bring_back).start()


def unmount_source() -> None:
    """What lies on a disk that is unmounted is gone; the folder that it was mounted on is there, and empty."""
    source = Path(os.environ["FAULT_SOURCE"])
    shutil.move(source, source.with_name("unmounted"))
    source.mkdir()


def set_clock_back() -> None:
    """For all modules of lakevec that ask what time it is; gRPC would take deadlines of such a clock to be over."""

    class Behind(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=1)

    for name, module in list(sys.modules.items()):
        if name.startswith("lakevec.jobs.") and getattr(module, "datetime", None) is datetime:
            module.datetime = Behind  # pyright: ignore[reportAttributeAccessIssue]


def linger() -> None:
    print("lingering", file=sys.stderr, flush=True)
    time.sleep(float(os.environ["FAULT_SECONDS"]))


def place(target: str) -> tuple[Any, str, Callable]:
    """A target's owner, name and function. An AttributeError says that the name in FAULTS is no longer right."""
    module, _, name = target.partition(":")
    *classes, attribute = name.split(".")
    owner: Any = importlib.import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    return owner, attribute, getattr(owner, attribute)


def patched(fault: Fault, log: Path) -> None:
    owner, attribute, original = place(fault.target)
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        if fault.of and fault.of not in [each.name for each in arguments if isinstance(each, Table)]:
            return original(*arguments, **options)
        calls += 1
        if calls == fault.call and fault.when == "before":
            strike(fault, log)
        result = original(*arguments, **options)
        if calls == fault.call and fault.when == "after":
            strike(fault, log)
        return result

    setattr(owner, attribute, counted)


def strike(fault: Fault, log: Path) -> None:
    with log.open("a") as file:
        file.write(json.dumps({"target": fault.target, "at": time.time()}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    globals()[fault.does]()


if __name__ == "__main__":
    patched(FAULTS[sys.argv[1]], Path(sys.argv[2]))
    sys.argv[1:] = sys.argv[3:]
    main()
