"""The classes of Spark and Delta as a JVM had them in memory, in a file that the next JVM maps instead of reading and
checking them anew: a run that finds nothing new takes 10 s with it instead of 14.

What it is: https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html (dynamic archives). A JVM that
cannot use an archive says so in its log and does without.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyspark

from .jars import cache_folder

JAVA_OPTIONS = "spark.driver.extraJavaOptions"
# Whoever gives one of these knows what to do about archives.
OF_ARCHIVES = ("-Xshare", "-XX:SharedArchiveFile", "-XX:ArchiveClassesAtExit", "-XX:+AutoCreateSharedArchive")

# A JVM takes some 10 s for an archive after everything else, and may be killed before it is done.
SECONDS_TO_NEXT_TRY = 24 * 3600
# 200 MB each, of which an update of Java or Spark leaves one behind.
SECONDS_UNUSED = 30 * 24 * 3600


def with_class_archive(conf: Mapping[str, str], java: str, makes_one: bool) -> dict[str, str]:
    """`conf` with the option of Java that has the archive used; or, where there is none, one made at the JVM's end.

    java: what that Java says of itself. makes_one: whether the session to come meets most of what sessions meet; it
    is slower by some seconds for it.
    """
    options = conf.get(JAVA_OPTIONS, "")
    if any(option.startswith(OF_ARCHIVES) for option in options.split()):
        return dict(conf)
    archive = class_archive(conf, java)
    if is_whole(archive):
        # Somebody else's is as good.
        with suppress(OSError):
            os.utime(archive)
        added = f'"-XX:SharedArchiveFile={archive}"'
    elif makes_one and is_due(archive):
        # The JVM names the thousands of classes that it cannot keep.
        added = f'"-XX:ArchiveClassesAtExit={archive}" -Xlog:cds=error'
    else:
        return dict(conf)
    return {**conf, JAVA_OPTIONS: f"{options} {added}".strip()}


def class_archive(conf: Mapping[str, str], java: str) -> Path:
    """An archive holds for one Java and one class path, whose files have not been touched since."""
    home = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)
    jars = sorted((jar.name, jar.stat().st_size, jar.stat().st_mtime_ns) for jar in home.glob("jars/*.jar"))
    key = repr((java, str(home), jars, conf.get("spark.driver.extraClassPath")))
    return cache_folder() / f"classes-{hashlib.sha256(key.encode()).hexdigest()[:16]}.jsa"


def is_whole(archive: Path) -> bool:
    """Whether the JVM came to the end of writing it: the header comes last."""
    try:
        with archive.open("rb") as file:
            return any(file.read(4))
    except OSError:
        return False


def is_due(archive: Path) -> bool:
    """Whether nobody tried to make it lately. Remembers that it is tried now, and removes what has not been used."""
    tried = archive.with_suffix(".tried")
    if tried.exists() and time.time() - tried.stat().st_mtime < SECONDS_TO_NEXT_TRY:
        return False
    with suppress(OSError):
        archive.parent.mkdir(parents=True, exist_ok=True)
        for old in archive.parent.glob("classes-*"):
            if time.time() - old.stat().st_mtime > SECONDS_UNUSED:
                old.unlink(missing_ok=True)
        tried.touch()
        return True
    return False
