"""The process in which parsers run: `python -m ....child MODULE:FUNCTION TIMEOUT_SECONDS MEMORY_MB`.

It reads requests from stdin and writes replies to stdout until stdin closes. A request is two
messages, the file's name and its bytes; a reply is one, a pickle. Before each stands its length.
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
# An Arrow column of strings and the JVM's rows end at 2 GiB, and the JVM copies a text more than once:
# a code point takes up to 4 bytes. All texts of a file are held at once, packed for the way and unpacked.
LONGEST_TEXT = 100_000_000
LONGEST_TEXTS = 400_000_000


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
        while (name_bytes := read(requests)) is not None:
            file_name, data = name_bytes.decode(errors="surrogatepass"), read(requests)
            write(replies, reply(parse, data or b"", file_name, timeout_seconds))
    except MemoryError:
        # No pickling, no freeing, no handlers: nothing that needs memory.
        os._exit(OUT_OF_MEMORY)


def reply(parse: Callable, data: bytes, name: str, timeout_seconds: float) -> bytes:
    """A pickle of (True, documents), (False, ParseError), or (False, (error class, message))."""
    signal.setitimer(signal.ITIMER_REAL, timeout_seconds + GRACE_SECONDS)
    try:
        documents = parse(data, name)
        too_long = too_long_a_text([len(document.text) for document in documents])
        answer = (False, ("TextTooLong", too_long)) if too_long else (True, documents)
    except MemoryError:
        raise
    except ParseError as error:
        answer = (False, error)
    except Exception as error:
        answer = (False, (type(error).__name__, " ".join(str(error).split())[:LONGEST_MESSAGE]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)


def too_long_a_text(lengths: list[int]) -> str | None:
    """What to say of documents whose texts are too long to hand on."""
    if max(lengths, default=0) > LONGEST_TEXT:
        return f"a text of {max(lengths):,} characters; {LONGEST_TEXT:,} is the most for one document: split the file"
    if sum(lengths) > LONGEST_TEXTS:
        return f"texts of {sum(lengths):,} characters; {LONGEST_TEXTS:,} is the most for one file: split it"
    return None


def private_stdout() -> BinaryIO:
    """The pipe to the parent, out of reach of parsers that print: their stdout is stderr."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def read(requests: BinaryIO) -> bytes | None:
    """The next message; None when there are no more."""
    length = requests.read(8)
    return requests.read(int.from_bytes(length, "big")) if length else None


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
