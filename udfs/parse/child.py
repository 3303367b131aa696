"""The process in which parsers run: `python -m ....child MODULE:FUNCTION TIMEOUT_SECONDS MEMORY_MB`.

It reads requests from stdin and writes replies to stdout until stdin closes.
"""

import importlib
import logging
import os
import pickle
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import BinaryIO

from .document import ParseError

# Exit status that says so; BSD's EX_OSERR, which no parser uses.
OUT_OF_MEMORY = 71
# The parent ends a child that is too slow. Should it be gone, the child's own alarm does.
GRACE_SECONDS = 5
# Room for the libraries that parsers import when their first file comes (openpyxl and numpy: 120 MB).
IMPORTS_MB = 256
LONGEST_MESSAGE = 500


def main() -> None:
    function, timeout_seconds, memory_mb = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    requests, replies = sys.stdin.buffer, private_stdout()
    warnings.simplefilter("ignore")
    logging.disable()
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        module, _, name = function.partition(":")
        parse = getattr(importlib.import_module(module), name)
        write(replies, b"ready")
        limit_memory(memory_mb)
        while length := requests.read(8):
            data, file_name = pickle.loads(requests.read(int.from_bytes(length, "big")))
            write(replies, reply(parse, data, file_name, timeout_seconds))
    except MemoryError:
        # No pickling, no freeing, no handlers: nothing that needs memory.
        os._exit(OUT_OF_MEMORY)


def reply(parse: Callable, data: bytes, name: str, timeout_seconds: float) -> bytes:
    """A pickle of (True, documents), (False, ParseError), or (False, (error class, message))."""
    signal.setitimer(signal.ITIMER_REAL, timeout_seconds + GRACE_SECONDS)
    try:
        answer = (True, parse(data, name))
    except MemoryError:
        raise
    except ParseError as error:
        answer = (False, error)
    except Exception as error:
        answer = (False, (type(error).__name__, " ".join(str(error).split())[:LONGEST_MESSAGE]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)


def private_stdout() -> BinaryIO:
    """The pipe to the parent, out of reach of parsers that print: their stdout is stderr."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def write(replies: BinaryIO, message: bytes) -> None:
    replies.write(len(message).to_bytes(8, "big"))
    replies.write(message)
    replies.flush()


def end_with_parent() -> None:
    """Ends the process when the other end of stdin is closed, in the middle of a document too."""
    poll = select.poll()
    poll.register(0, 0)
    poll.poll()
    os._exit(0)


def limit_memory(memory_mb: int) -> None:
    """Allow so much address space beyond what the process has now and what imports may still take."""
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (memory_mb + IMPORTS_MB) * 2**20
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


if __name__ == "__main__":
    main()
