"""The errors that lakevec raises on purpose: each says what, where and how to mend it."""

import re

# A cause that Java names, or the last line of a Python traceback; one may be the other's text.
TRACEBACK = r"Traceback \(most recent call last\):"
CAUSES = re.compile(
    rf"^Caused by: (?P<java>(?!.*{TRACEBACK}).+)$|{TRACEBACK}\n(?:[ \t].*\n|\n)*(?P<python>\S.*)", re.MULTILINE
)


class LakevecError(Exception):
    """Something failed that the person on call can act on. Exit status 1."""

    exit_status = 1


class ConfigurationError(LakevecError):
    """A setting or an argument is wrong; nothing was started. Exit status 2."""

    exit_status = 2


class SourceError(LakevecError):
    """The source of documents cannot be read, or lost more files than is credible."""


class LakeBusyError(LakevecError):
    """Another command works on the same stages of the lake; nothing was started."""


class MilvusError(LakevecError):
    """Milvus refused, failed or cannot be reached."""


def cause_of(text: str) -> str:
    """What went wrong, of all that Spark says of a failure: the last cause that it names, without the stack."""
    causes = [found["java"] or found["python"] for found in CAUSES.finditer(text)]
    return causes[-1] if causes else next(filter(None, map(str.strip, text.splitlines())), "it gave no reason")
