"""The Milvus server that lakevec starts and owns: one per lake, its data beside the lake.

What is running is decided by locks, which the kernel frees with the process that held them, whatever
ended it:

- `server.lock` is held by the server process itself, so that no process that came to have the same
  number later is ever taken for it;
- `users.lock` is shared by the commands that use the server: the last of them stops it, unless
  `start` was asked to let it run. A server left over by a killed command has no users: the next
  command uses it and stops it at its end;
- `lock` lets one process at a time start or stop.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Literal

from ..errors import ConfigurationError, MilvusError
from ..lake.storage import local_path
from .readiness import healthy, wait_until_answering
from .server_package import COMMAND, Ports, free_ports, server_environment, unpacked_server, write_configuration

START_SECONDS = 300.0
# Its orderly end can take more than a minute and saves nothing that a kill would lose.
STOP_SECONDS = 1.0
ATTEMPTS = 3
POLL_SECONDS = 0.1
SIGNS_OF_A_TAKEN_PORT = ("address already in use", "get available port when init")


@dataclass(frozen=True)
class ServerState:
    """What `lakevec server status` tells. `pid` and `uri` are None where it is stopped."""

    state: Literal["running", "stopped"]
    uri: str | None
    data_path: str
    pid: int | None


@dataclass(frozen=True)
class Record:
    """What was started, as kept in state.json; it speaks of the present only while server.lock is held.

    stays: it outlives the commands that use it. ready: it answered once, with all that it had loaded.
    """

    pid: int
    ports: Ports
    stays: bool = False
    ready: bool = False

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.ports['proxy']}"

    @property
    def health(self) -> str:
        return f"http://127.0.0.1:{self.ports['metrics']}/healthz"


class PortTakenError(Exception):
    """Somebody took one of the ports between choosing and listening."""


def server_folder(lake_path: str) -> Path:
    """Where the server of this lake keeps its data: beside lake.path."""
    path = local_path(lake_path.rstrip("/"))
    if path is None:
        raise ConfigurationError(
            f"milvus.uri is standalone, which keeps its data beside lake.path, but lake.path {lake_path} is no local "
            "folder. Set milvus.uri to a server's address."
        )
    return Path(f"{path}-milvus").absolute()


def has_data(folder: Path) -> bool:
    """Whether a server ever ran here."""
    return (folder / "data").is_dir()


def staging_folder(folder: Path) -> Path:
    """Where import files for this server are written.

    The server's bulk insert takes paths as they are: absolute ones anywhere that it may read, relative
    ones from its own folder (not from its storage's). It deletes nothing here; the writer does.
    """
    return folder / "staging"


def status(folder: Path) -> ServerState:
    """What runs at this moment; starts and changes nothing."""
    return state_of(folder, running(folder))


def start(folder: Path, wait_seconds: float = START_SECONDS) -> ServerState:
    """Start the server, or use the one that runs, and let it run until `stop`.

    Returns when what was loaded before answers again: 3 s for an empty server, about 30 s for one
    with loaded collections. Raises MilvusError with the server's last words if it dies or does not
    answer within `wait_seconds`, ConfigurationError where the package has no server for this platform.
    """
    with exclusively(folder):
        record = replace(ready_server(folder, wait_seconds), stays=True)
        write_record(folder, record)
    return state_of(folder, record)


def stop(folder: Path) -> ServerState:
    """Stop the server, whoever uses it. Nothing is lost, even what was not flushed."""
    if folder.is_dir():
        with exclusively(folder):
            end(folder)
    return status(folder)


@contextlib.contextmanager
def serving(folder: Path, wait_seconds: float = START_SECONDS) -> Iterator[ServerState]:
    """A running server for as long as the block lasts.

    One that runs is used; otherwise one is started. It is stopped at the end of the last block that
    uses it, in whatever process, unless `start` was called for it.
    """
    with contextlib.ExitStack() as stack:
        with exclusively(folder):
            users = stack.enter_context(open(folder / "users.lock", "w"))
            fcntl.flock(users, fcntl.LOCK_SH)
            stack.callback(leave, folder, users)
            record = ready_server(folder, wait_seconds)
        yield state_of(folder, record)


def leave(folder: Path, users: IO[str]) -> None:
    """Stop the server if nobody else uses it and nobody asked for it to stay."""
    with exclusively(folder):
        record = running(folder)
        if record and not record.stays and locked(users, fcntl.LOCK_EX):
            end(folder)
        fcntl.flock(users, fcntl.LOCK_UN)


# Locks and the record


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def locked(file: IO[str], kind: int) -> bool:
    """Take the lock if that is possible at once."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def running(folder: Path) -> Record | None:
    """The record of the server process that lives, if one does."""
    try:
        with open(folder / "server.lock") as lock:
            if locked(lock, fcntl.LOCK_SH):
                return None
    except FileNotFoundError:
        return None
    return last_record(folder)


def last_record(folder: Path) -> Record | None:
    """What was started last, whether it lives or not."""
    try:
        return Record(**json.loads((folder / "state.json").read_text()))
    except FileNotFoundError:
        return None


def write_record(folder: Path, record: Record) -> None:
    partial = folder / "state.json.partial"
    partial.write_text(json.dumps(asdict(record)))
    partial.replace(folder / "state.json")


def state_of(folder: Path, record: Record | None) -> ServerState:
    if record is None:
        return ServerState("stopped", None, str(folder), None)
    return ServerState("running", record.uri, str(folder), record.pid)


# The process


def ready_server(folder: Path, wait_seconds: float) -> Record:
    """The server that runs, or a new one, once it answers; other ports are tried if one was taken meanwhile,
    and the last attempt asks for none of those that were tried before."""
    deadline = time.monotonic() + wait_seconds
    for attempts_left in reversed(range(ATTEMPTS)):
        last = last_record(folder) if attempts_left else None
        record = running(folder) or spawn(folder, last.ports if last else None)
        try:
            if not record.ready:
                wait_until_healthy(folder, record, deadline)
                wait_until_answering(record.uri, deadline)
                record = replace(record, ready=True)
                write_record(folder, record)
            return record
        except PortTakenError as error:
            end(folder)
            if not attempts_left:
                raise MilvusError(str(error)) from error
        except BaseException:
            end(folder)
            raise
    raise AssertionError("the last attempt returns or raises")


def spawn(folder: Path, preferred: Ports | None) -> Record:
    """A new server process, on the preferred ports where they are free, otherwise on others.

    It has a session of its own, so that Ctrl-C does not reach it. It waits for a word from us before
    it becomes the server: the record is always written before there is a server, and a command that
    dies in between leaves nothing behind.
    """
    binaries = unpacked_server()
    ports = free_ports(preferred)
    write_configuration(folder, ports)
    staging_folder(folder).mkdir(exist_ok=True)
    log_file(folder).touch()
    log_file(folder).replace(folder / "server.previous.log")
    with open(log_file(folder), "wb") as log, open(folder / "server.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [*COMMAND, str(binaries)],
            cwd=folder,
            env=os.environ | server_environment(folder, ports),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )
    record = Record(process.pid, ports)
    write_record(folder, record)
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(b"go\n")
    # It outlives us, or `end` collects it: nobody waits for this object.
    process.returncode = 0
    return record


def wait_until_healthy(folder: Path, record: Record, deadline: float) -> None:
    while not healthy(record.health):
        if running(folder) is None:
            reap(record.pid)
            refuse_taken_ports(folder)
            raise MilvusError(
                f"The Milvus server ended at its start. The end of its log {log_file(folder)}:\n"
                + last_words(log_file(folder))
            )
        if time.monotonic() > deadline:
            raise MilvusError(
                f"The Milvus server did not become healthy in time. The end of its log {log_file(folder)}:\n"
                + last_words(log_file(folder))
            )
        time.sleep(POLL_SECONDS)
    refuse_taken_ports(folder)


def refuse_taken_ports(folder: Path) -> None:
    """Raise PortTakenError if the server says so. It ends for want of some ports; for others it takes one of
    its own choice, and whoever listens where we believe it to be is somebody else, maybe another lake's server.
    """
    log = log_file(folder).read_text(errors="replace")
    for line in log.splitlines():
        if any(sign in line for sign in SIGNS_OF_A_TAKEN_PORT):
            raise PortTakenError(f"The Milvus server found a port taken, {ATTEMPTS} times in a row: {line[:300]}")


def end(folder: Path) -> None:
    """End the server process, if one lives: it is asked first, and killed when it takes long."""
    record = running(folder)
    if record is None:
        return
    for word, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 60.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, word)
        deadline = time.monotonic() + patience
        while running(folder) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
    if running(folder) is not None:
        raise MilvusError(
            f"The Milvus server, process {record.pid}, cannot be killed: see what holds it, then try again."
        )
    reap(record.pid)


def reap(pid: int) -> None:
    """Collect the exit status if the process was started by this one."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def log_file(folder: Path) -> Path:
    return folder / "server.log"


def last_words(log: Path, count: int = 15) -> str:
    """The end of the log before the stacks that a crash adds to it; long lines are cut."""
    words = log.read_text(errors="replace").partition("\ngoroutine ")[0]
    return "\n".join(line[:300] for line in words.splitlines()[-count:])
