"""Where the lake's files lie, as pyarrow asks for them. Spark and pyarrow name some stores differently."""

import re
from functools import cache
from pathlib import Path

from pyarrow import fs

from ..errors import ConfigurationError
from ..settings import Settings, required

# Hadoop's names of a scheme -> pyarrow's.
SCHEMES = {"s3a": "s3", "s3n": "s3"}


def lake_path(settings: Settings) -> str:
    """lake.path, absolute where it is local."""
    path = required(settings.lake.path, "lake.path")
    return path.rstrip("/") if "://" in path else str(Path(path).expanduser().absolute())


@cache
def storage(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path below lake.path, and the path in it.

    Raises ConfigurationError for what pyarrow cannot read.
    """
    if (local := local_path(path)) is not None:
        return fs.LocalFileSystem(), str(local)
    scheme, separator, rest = path.partition("://")
    try:
        return fs.FileSystem.from_uri(SCHEMES.get(scheme, scheme) + separator + rest)
    except (OSError, ValueError, NotImplementedError) as error:
        raise ConfigurationError(
            f"lake.path is no place that can be read: {path}: {error}. Give a folder, or a bucket as s3a://..., "
            "gs://... or abfss://..."
        ) from error


def no_lake(path: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no lake at lake.path {path}. See whether the path is right; `lakevec run` and `lakevec ingest` make "
        "one."
    )


def local_path(path: str) -> Path | None:
    """The same place as a path of this machine; None for a bucket."""
    path = re.sub(r"^file:(//)?(?=/)", "", path)
    return None if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", path) else Path(path)
