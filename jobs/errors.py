"""The errors that lakevec raises on purpose: each says what, where and how to mend it."""


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
