"""Delta's JARs: fetched once by Spark's Ivy into the user's cache, named as files from then on.

A session that names files starts in half the time of one that resolves coordinates.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path


def delta_package() -> str:
    """Maven coordinate of the Delta that belongs to the installed delta-spark and pyspark."""
    spark_version = ".".join(metadata.version("pyspark").split(".")[:2])
    return f"io.delta:delta-spark_{spark_version}_2.13:{metadata.version('delta-spark')}"


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakevec"


def ivy_folder() -> Path:
    return cache_folder() / ("jars-" + delta_package().replace(":", "-"))


def delta_jars(folder: Path) -> list[Path]:
    """The JARs fetched earlier; empty unless that fetch came to its end."""
    return sorted((folder / "jars").glob("*.jar")) if (folder / "complete").exists() else []


@contextmanager
def fetching() -> Iterator[dict[str, str]]:
    """Spark settings that name the JARs, or have them fetched when the session starts within.

    One process fetches at a time; the others wait and find the files.
    """
    folder = ivy_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars := delta_jars(folder):
            # Nothing will be fetched: the next process need not wait for this one's session.
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield {"spark.jars": ",".join(str(jar) for jar in jars)}
        else:
            yield {"spark.jars.packages": delta_package(), "spark.jars.ivy": str(folder)}
            (folder / "complete").touch()
