"""Delta's JARs: fetched once by Spark's Ivy into the user's cache, named as files from then on.

A session that names files starts in half the time of one that resolves coordinates.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
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
def fetching(conf: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """`conf` with the Spark settings that name the JARs, or have them fetched when the session starts within.

    conf: the user's own settings; their JARs and packages stay beside Delta's.
    One process fetches at a time; the others wait and find the files.
    """
    folder = ivy_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars := delta_jars(folder):
            # Nothing will be fetched: the next process need not wait for this one's session.
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield with_added(conf, "spark.jars", *map(str, jars))
        elif any(conf.get(name) for name in ("spark.jars.packages", "spark.jars.ivy")):
            # They go where the user's go: in our folder theirs would pass for Delta's ever after.
            yield with_added(conf, "spark.jars.packages", delta_package())
        else:
            yield {**conf, "spark.jars.packages": delta_package(), "spark.jars.ivy": str(folder)}
            (folder / "complete").touch()


def with_added(conf: Mapping[str, str], name: str, *values: str) -> dict[str, str]:
    """A setting that is a list, with more in it."""
    return {**conf, name: ",".join(filter(None, [conf.get(name), *values]))}
