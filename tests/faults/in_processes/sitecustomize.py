"""Faults in a driver's listing and in parsers, which start by themselves: put on PYTHONPATH by a test.

FAULT_IN_PROCESSES says which: `poison` lets a parser do what its file says, `unreadable:<folder>` lets the
listing fail there (root may read everything).
"""

import os
import sys

kind, _, value = os.environ.get("FAULT_IN_PROCESSES", "").partition(":")
process = " ".join(sys.orig_argv)


def poisoned() -> None:
    import ctypes

    from lakevec.udfs.parse import formats

    original = formats.parse

    def parse(data, name):
        if data.startswith(b"POISON exit"):
            os._exit(7)
        if data.startswith(b"POISON segfault"):
            ctypes.string_at(0)
        if data.startswith(b"POISON loop"):
            while True:
                pass
        if data.startswith(b"POISON hunger"):
            return bytearray(8 << 30)
        return original(data, name)

    formats.parse = parse


def unreadable(folder: bytes) -> None:
    original = os.scandir

    def scandir(path="."):
        if os.fsencode(path) == folder:
            raise PermissionError(13, "Permission denied", path)
        return original(path)

    os.scandir = scandir


if kind == "poison" and "udfs.parse.child" in process:
    poisoned()
if kind == "unreadable" and "lakevec.jobs.cli" in process:
    unreadable(os.fsencode(value))
