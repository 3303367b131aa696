"""The source of documents: a folder, bucket or volume, read through pyarrow.fs.

A file's uri is the source's path as it was given (made absolute where it is local), then the
file's path within it. The bytes go straight to the Python workers, never through the JVM.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pyarrow import fs

from ..errors import SourceError


@dataclass(frozen=True)
class ListedFile:
    uri: str
    size: int
    modified_us: int


def source_root(path: str) -> str:
    """The source's path as uris begin with it: absolute, without a slash at its end."""
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


def list_files(root: str, include: Sequence[str], exclude: Sequence[str]) -> list[ListedFile]:
    """All files below the source. A folder that cannot be read is an OSError, never an absence.

    Names that begin with a dot, and Office's lock files (~$...), are nobody's documents.
    """
    system, top = filesystem(root)
    found = system.get_file_info(fs.FileSelector(top, recursive=True))
    files = []
    for info in found:
        if info.type != fs.FileType.File:
            continue
        within = info.path[len(top) :].lstrip("/")
        if any(part.startswith((".", "~$")) for part in within.split("/")):
            continue
        if include and not any(fnmatch.fnmatchcase(within, glob) for glob in include):
            continue
        if any(fnmatch.fnmatchcase(within, glob) for glob in exclude):
            continue
        files.append(ListedFile(f"{uri_prefix(root)}/{within}", info.size, (info.mtime_ns or 0) // 1000))
    return files


def read_file(root: str, uri: str) -> bytes:
    """The bytes of one file. Raises FileNotFoundError when it is gone, OSError when it cannot be read."""
    system, top = filesystem(root)
    within = uri[len(uri_prefix(root)) :].lstrip("/")
    with system.open_input_stream(f"{top.rstrip('/')}/{within}") as stream:
        return stream.read()
