"""One writer at a time: a command that writes holds the locks of the stages whose tables it writes.

A lock for each stage, not one for the lake: on a cluster the stages are tasks of their own, and the
ingest of the next run may overlap the load of this one. Two stages at the same time do no harm, since
each writes tables of its own and reads the others' as versions; two writers of one stage would spoil
each other's checkpoint, and generations in Milvus. `run`, and whatever touches several tables
(forget, a migration), takes the locks of all. They are tried in one order and never waited for, so
nobody waits for each other.

On a local lake a lock is flock's: the kernel frees it with the process, however that ended, and no
child inherits it. Elsewhere (buckets, volumes, catalogues) it is a lease in a Delta table (lease.py).
"""

import contextlib
import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from ..errors import LakeBusyError
from ..settings import Settings
from .lease import leased
from .session import spark_session
from .storage import lake_path, local_path, no_lake
from .tables import LakeTables

STAGES = ("ingest", "chunk", "embed", "load")
# Not a stage, but one at a time as well: it has a collection of its own in Milvus.
TUNE = "tune"

FOLDER = "_locks"
# Mounts of buckets: folders to look at, but flock does not reach the other machines.
MOUNTS = ("/Volumes", "/dbfs")
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
# Between taking a lock and writing down who took it.
NAMELESS_SECONDS = 1.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. `command` without its options, which may carry secrets."""

    command: str
    host: str = field(default_factory=platform.node)
    pid: int = field(default_factory=os.getpid)
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __str__(self) -> str:
        return f"`lakevec {self.command}`, process {self.pid} on {self.host}, since {self.since}"


@contextlib.contextmanager
def locked(
    settings: Settings, command: str, stages: Iterable[str] = STAGES, makes_lake: bool = False
) -> Iterator[None]:
    """Hold the locks of these stages, for `lakevec <command>`, as long as the block lasts.

    makes_lake: where there is no lake, this command makes one.
    Raises LakeBusyError that names the holder, at once, where another process (or an outer block of
    this one: it is not reentrant) has one of them, and ConfigurationError where there is no folder for
    a lake; before Spark starts on a local lake.
    """
    stages = [stage for stage in (*STAGES, TUNE) if stage in set(stages)]
    path = lake_path(settings)
    with contextlib.ExitStack() as stack:
        folder = local_path(path)
        if settings.lake.catalog_schema or folder is None or is_mount(folder):
            tables = LakeTables(spark_session(settings.spark), path, settings.lake.catalog_schema)
            stack.enter_context(leased(tables, stages, Holder(command), makes_lake))
        elif not (folder.is_dir() or makes_lake):
            # Nothing shall be made that looks like a lake.
            raise no_lake(path)
        else:
            for stage in stages:
                stack.enter_context(flocked(folder / FOLDER, stage, Holder(command)))
        yield


def is_mount(folder: Path) -> bool:
    return any(folder.is_relative_to(mount) for mount in MOUNTS) or "DATABRICKS_RUNTIME_VERSION" in os.environ


@contextlib.contextmanager
def flocked(folder: Path, stage: str, holder: Holder) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    # Python's descriptors are closed on exec: neither the JVM nor a server keeps the lock.
    with (folder / stage).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LakeBusyError(refusal(stage, recorded(file))) from None
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise LakeBusyError(
                    f"The file system of {folder} knows no locks ({error}), so nothing would keep two runs from "
                    "writing the same tables. Give a lake.path on a local disk, or on a bucket."
                ) from error
            raise
        file.truncate(0)
        file.write(json.dumps(asdict(holder)))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def recorded(file: IO[str]) -> Holder | None:
    """Who wrote himself down; None where nobody has yet."""
    deadline = time.monotonic() + NAMELESS_SECONDS
    while True:
        file.seek(0)
        with contextlib.suppress(ValueError):
            return Holder(**json.loads(file.read()))
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)


def refusal(stage: str, holder: object | None) -> str:
    return (
        f"Another command works on the stage {stage} of this lake: {holder or 'it has not said who it is'}. Nothing "
        "was started. Let it end, or end it: its lock goes with it."
    )
