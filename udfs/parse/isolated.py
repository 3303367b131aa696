"""Parsing in a kept child process: a crash, a hang or hunger costs one document.

The child is a plain `python -m ....child`, not a multiprocessing one: it runs none of its parent's
`__main__` (in Spark that is the worker daemon), shares no locks with a forked worker, and ends with its
parent, however that ends.
"""

import os
import pickle
import select
import subprocess
import sys
import threading
import time

from .child import OUT_OF_MEMORY
from .document import Document, ParseError

PARSE = f"{__package__}.formats:parse"
# Until the child has imported the parsers; a machine under load takes its time.
START_SECONDS = 120
LENGTH_BYTES = 8
READ_BYTES = 1 << 20


class ParserFailedError(ParseError):
    """The parser did not come back with a result. `error_class` says how it ended."""

    def __init__(self, error_class: str, message: str):
        super().__init__(message)
        self.error_class = error_class


class IsolatedParser:
    """Parses files one by one in a child process that is started when first needed and then kept.

    timeout_seconds: longest time for one file.
    memory_mb: memory that the child may take beyond its imports (Linux only; elsewhere not limited).
    function: "module:name" of what is called in the child, as `name(data, file_name) -> list[Document]`.
    """

    def __init__(self, timeout_seconds: float, memory_mb: int, function: str = PARSE):
        self.timeout_seconds = timeout_seconds
        self.memory_mb = memory_mb
        self.function = function
        self.child: subprocess.Popen | None = None
        self.lock = threading.Lock()

    def parse(self, data: bytes, name: str) -> list[Document]:
        """The file's documents.

        Raises ParseError: the parser's own, or ParserFailedError with `error_class` ParserTimeout,
        ParserOutOfMemory, ParserCrashed, TextTooLong, or the name of the exception that the parser let through.
        """
        with self.lock:
            is_used = self.child is not None
            try:
                return self.ask(data, name)
            except ParserFailedError as error:
                if error.error_class != "ParserOutOfMemory" or not is_used:
                    raise
                # What earlier files left behind may have cost this one its memory: once more, afresh.
                return self.ask(data, name)

    def ask(self, data: bytes, name: str) -> list[Document]:
        child = self.child or self.start()
        try:
            try:
                send(child, name.encode(errors="surrogatepass"))
                send(child, data)
                succeeded, result = pickle.loads(receive(child, time.monotonic() + self.timeout_seconds))
            except TimeoutError:
                raise ParserFailedError(
                    "ParserTimeout",
                    f"parsing took longer than {self.timeout_seconds:g} s; parse.timeout_seconds sets the limit",
                ) from None
            except (EOFError, BrokenPipeError):
                raise self.ended(child.wait()) from None
        except BaseException:
            # Whatever it was, the child is in the middle of something.
            self.close()
            raise
        if succeeded:
            return result
        if isinstance(result, ParseError):
            raise result
        raise ParserFailedError(*result)

    def ended(self, status: int) -> ParserFailedError:
        if status == OUT_OF_MEMORY:
            return ParserFailedError(
                "ParserOutOfMemory",
                f"parsing took more than {self.memory_mb:,} MB of memory; parse.memory_mb sets the limit",
            )
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return ParserFailedError(
            "ParserCrashed",
            f"the parser's process ended with {how} (limits: parse.memory_mb = {self.memory_mb}, "
            f"parse.timeout_seconds = {self.timeout_seconds:g})",
        )

    def start(self) -> subprocess.Popen:
        arguments = [self.function, str(self.timeout_seconds), str(self.memory_mb)]
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.child", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # What this process can import, its child can, files that Spark added included.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            # A Ctrl-C is for the parent alone; the child sees its pipe close and ends.
            start_new_session=True,
        )
        self.child = child
        try:
            receive(child, time.monotonic() + START_SECONDS)
        except (EOFError, TimeoutError) as error:
            self.close()
            raise RuntimeError(
                f"the parser's process did not start ({' '.join(child.args)}); its own words are on stderr"  # pyright: ignore[reportArgumentType, reportCallIssue]
            ) from error
        return child

    def close(self) -> None:
        """End the child. The next file starts another."""
        child, self.child = self.child, None
        if child:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()


def send(child: subprocess.Popen, message: bytes) -> None:
    assert child.stdin
    for part in (len(message).to_bytes(LENGTH_BYTES, "big"), message):
        rest = memoryview(part)
        while rest:
            rest = rest[child.stdin.write(rest) :]


def receive(child: subprocess.Popen, deadline: float) -> bytearray:
    """The child's next message. Raises EOFError when it ended, TimeoutError at the deadline."""
    length = int.from_bytes(receive_bytes(child, LENGTH_BYTES, deadline), "big")
    return receive_bytes(child, length, deadline)


def receive_bytes(child: subprocess.Popen, length: int, deadline: float) -> bytearray:
    assert child.stdout
    poll = select.poll()
    poll.register(child.stdout, select.POLLIN)
    received = bytearray()
    while len(received) < length:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        read = os.read(child.stdout.fileno(), min(length - len(received), READ_BYTES))
        if not read:
            raise EOFError
        received += read
    return received
