"""The source of documents: a local folder, or a bucket or volume that is read through pyarrow.fs.

A file's uri is the source's path as it was given (made absolute where it is local), then the
file's path within it. The bytes go straight to the Python workers, never through the JVM.

Local folders are walked here, as pyarrow neither bears names that are not UTF-8 nor ends where
links lead in a circle.
"""

import errno
import fnmatch
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pyarrow import fs

from ...udfs.documents import LARGEST_FILE_MB
from ..errors import ConfigurationError, SourceError

# An empty part, which no path has, stands before what is shown of a name that is not UTF-8. So no
# other file has the uri of such a one.
NOT_UTF8 = "/"
# s3://key:secret@bucket
PASSWORD = re.compile(r"[^:/]+://[^/@]*:[^/@]*@")


# Times that Python has in every time zone: 0001-01-02 and 9999-12-30.
EARLIEST_US, LATEST_US = -62_135_510_400_000_000, 253_402_128_000_000_000


class NameNotUtf8(OSError):
    """A file's name cannot stand in the lake, nor be read by it. The message says how to mend it."""


class FileTooLarge(OSError):
    """A file is larger than what is read at all."""


@dataclass(frozen=True)
class ListedFile:
    uri: str
    size: int
    modified_us: int


def source_root(path: str) -> str:
    """The source's path as uris begin with it: absolute, without a slash at its end.

    Raises ConfigurationError for one with a password in it, which every uri and every message would show.
    """
    if PASSWORD.match(path):
        raise ConfigurationError(
            "source.path has a password in it, which would stand in every uri of the index. Give the bucket's keys as "
            "its store's own tools take them (environment, profile, role)."
        )
    if "://" not in path:
        path = str(Path(path).expanduser().absolute())
    elif path.startswith("file://"):
        path = path.removeprefix("file://")
    return path.rstrip("/") or "/"


def uri_prefix(root: str) -> str:
    """What uris begin with: the root without the options of its file system (s3://bucket/docs?region=...)."""
    return root.partition("?")[0].rstrip("/") if "://" in root else root.rstrip("/")


@cache
def filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """The file system of a source and the source's path in it."""
    if "://" not in root:
        return fs.LocalFileSystem(), root
    try:
        return fs.FileSystem.from_uri(root)
    except (OSError, ValueError) as error:
        raise SourceError(f"source.path {root}: {error}") from error


def check_source(root: str) -> None:
    """Raise SourceError unless the source is a folder that can be listed."""
    system, path = filesystem(root)
    try:
        info = system.get_file_info(path)
    except OSError as error:
        raise SourceError(f"source.path {root} cannot be read: {error}") from error
    if info.type != fs.FileType.Directory:
        what = "is a file" if info.type == fs.FileType.File else "does not exist"
        raise SourceError(
            f"source.path {root} {what}; it must be a folder. Nothing was changed: mount or mend it and run again."
        )


def list_files(root: str, include: Sequence[str], exclude: Sequence[str]) -> Iterator[ListedFile]:
    """All files below the source. A folder that cannot be read is an OSError, never an absence.

    Names that begin with a dot, and Office's lock files (~$...), are nobody's documents. A file whose
    name is not UTF-8 is listed with its other bytes escaped; read_file says what is wrong with it.
    """
    below = files_in_store(root) if "://" in root else files_in_folder(root)
    prefix = uri_prefix(root)
    for within, size, modified_us in below:
        if is_wanted(within.removeprefix(NOT_UTF8), include, exclude):
            yield ListedFile(f"{prefix}/{within}", size, min(max(modified_us, EARLIEST_US), LATEST_US))


def is_wanted(within: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    if any(is_hidden(part) for part in within.split("/")):
        return False
    if include and not any(fnmatch.fnmatchcase(within, glob) for glob in include):
        return False
    return not any(fnmatch.fnmatchcase(within, glob) for glob in exclude)


def is_hidden(name: str) -> bool:
    return name.startswith((".", "~$"))


def files_in_store(root: str) -> Iterator[tuple[str, int, int]]:
    """(path within the source, bytes, microseconds of its last change) of each file of a bucket or volume."""
    system, top = filesystem(root)
    for info in system.get_file_info(fs.FileSelector(top, recursive=True)):
        if info.type == fs.FileType.File:
            yield info.path[len(top) :].lstrip("/"), info.size, (info.mtime_ns or 0) // 1000


def files_in_folder(root: str) -> Iterator[tuple[str, int, int]]:
    """What files_in_store gives, for a local folder; hidden folders are left out.

    Every folder is walked once: by its own path, else by the first link that leads to it. So a link
    to a folder above it, or to one that is listed anyway, adds nothing, and no circle is endless.
    """
    top = root.encode()
    folders, links = [(b"", os.path.realpath(top))], deque()
    walked = set()
    while folders or links:
        within, real = folders.pop() if folders else links.popleft()
        if real in walked:
            continue
        walked.add(real)
        # Sorted, so that of several links to one folder it is the same one every time.
        for entry in sorted(os.scandir(os.path.join(top, within)), key=lambda entry: entry.name):
            path = os.path.join(within, entry.name)
            if leads_nowhere(entry):
                continue
            if not entry.is_dir():
                if entry.is_file():
                    status = entry.stat()
                    yield shown(path), status.st_size, status.st_mtime_ns // 1000
            elif is_hidden(shown(entry.name)):
                continue
            elif entry.is_symlink():
                links.append((path, os.path.realpath(entry.path)))
            else:
                folders.append((path, os.path.join(real, entry.name)))


def leads_nowhere(entry: os.DirEntry) -> bool:
    """Whether this is a link to nothing or to itself, or was deleted just now."""
    try:
        entry.stat()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.ELOOP:
            return True
        raise
    return False


def shown(path: bytes) -> str:
    """A path as text. Different paths are shown differently."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return NOT_UTF8 + path.replace(b"\\", b"\\\\").decode(errors="backslashreplace")


def read_file(root: str, uri: str) -> bytes:
    """The bytes of one file. Raises FileNotFoundError when it is gone, OSError when it cannot be read."""
    system, top = filesystem(root)
    within = uri[len(uri_prefix(root)) + 1 :]
    if "://" not in root and within.startswith(NOT_UTF8):
        raise NameNotUtf8(
            f"the name {within.removeprefix(NOT_UTF8)} is not UTF-8 (its other bytes are shown as \\x..); rename it"
        )
    # Not open_input_stream: it would unpack what is named .gz, whatever that grows to.
    with system.open_input_file(f"{top.rstrip('/')}/{within.lstrip('/')}") as file:
        if file.size() > LARGEST_FILE_MB * 2**20:
            raise FileTooLarge(f"{file.size() / 2**20:,.0f} MB are more than the {LARGEST_FILE_MB} MB that are read")
        return file.read()
