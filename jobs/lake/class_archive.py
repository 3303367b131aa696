"""The classes of Spark and Delta as a JVM had them in memory, in a file that the next JVM maps instead of reading and
checking them anew: a run that finds nothing new takes 10 s with it instead of 14.

What it is: https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html (dynamic archives). A JVM that
cannot use an archive says so in its log and does without.
"""

import hashlib
import os
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyspark

from .jars import cache_folder

JAVA_OPTIONS = "spark.driver.extraJavaOptions"
# Whoever gives one of these knows what to do about archives.
OF_ARCHIVES = ("-Xshare", "-XX:SharedArchiveFile", "-XX:ArchiveClassesAtExit", "-XX:+AutoCreateSharedArchive")
# An archive holds for one layout of objects.
OF_MEMORY = ("-Xm", "-XX:+Use", "-XX:-Use")

# A JVM takes some 10 s for an archive after everything else, and may be killed before it is done.
SECONDS_TO_NEXT_TRY = 24 * 3600
# 200 MB each: one for each environment, Java and Spark.
MOST_ARCHIVES = 3


def with_class_archive(conf: Mapping[str, str], java: str, makes_one: bool) -> dict[str, str]:
    """`conf` with the option of Java that has the archive used; or, where there is none, one made at the JVM's end.

    Only where `conf` has options of Java: otherwise those of Spark's own files hold, and ours would take their place.

    java: what that Java says of its version. makes_one: whether the session to come meets most of what sessions
    meet; it is slower by some seconds for it.
    """
    try:
        added = option_of_archive(conf, java, makes_one)
    # Of files, or of a quotation that does not end.
    except (OSError, ValueError):
        added = None
    return {**conf, JAVA_OPTIONS: f"{conf[JAVA_OPTIONS]} {added}"} if added else dict(conf)


def option_of_archive(conf: Mapping[str, str], java: str, makes_one: bool) -> str | None:
    # Under spark-submit the JVM runs already.
    if JAVA_OPTIONS not in conf or "PYSPARK_GATEWAY_PORT" in os.environ:
        return None
    environment = [os.environ.get(name, "") for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")]
    options = shlex.split(" ".join([*environment, conf[JAVA_OPTIONS]]))
    if any(option.startswith(OF_ARCHIVES) for option in options) or has_settings_on_class_path():
        return None
    archive = class_archive(conf, options, java)
    if is_whole(archive):
        # Somebody else's is as good.
        with suppress(OSError):
            os.utime(archive)
        # A power cut may have left a good header and a bad rest.
        return f'"-XX:SharedArchiveFile={archive}" -XX:+VerifySharedSpaces'
    if makes_one and is_due(archive):
        # The JVM names the thousands of classes that it cannot keep.
        return f'"-XX:ArchiveClassesAtExit={archive}" -Xlog:cds=error'
    return None


def spark_home() -> Path:
    return Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)


def has_settings_on_class_path() -> bool:
    """A folder of files on the class path: of such a JVM no archive can be made."""
    folders = [os.environ.get("SPARK_CONF_DIR") or spark_home() / "conf"]
    folders += [folder for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR") if (folder := os.environ.get(name))]
    return any(Path(folder).is_dir() and any(Path(folder).iterdir()) for folder in folders)


def class_archive(conf: Mapping[str, str], options: list[str], java: str) -> Path:
    """An archive holds for one Java, one layout of its memory, and one class path, of files not touched since."""
    # Layers of images keep whole seconds, and the JVM looks at no more.
    jars = sorted((jar.name, jar.stat().st_size, int(jar.stat().st_mtime)) for jar in spark_home().glob("jars/*.jar"))
    memory = [option for option in options if option.startswith(OF_MEMORY)]
    named = [conf.get(f"spark.driver.{name}") for name in ("memory", "extraClassPath")]
    key = repr((java, str(spark_home()), jars, memory, named, os.environ.get("SPARK_DIST_CLASSPATH")))
    return cache_folder() / f"classes-{hashlib.sha256(key.encode()).hexdigest()[:16]}.jsa"


def is_whole(archive: Path) -> bool:
    """Whether the JVM came to the end of writing it: the header comes last."""
    try:
        with archive.open("rb") as file:
            return any(file.read(4))
    except FileNotFoundError:
        return False


def is_due(archive: Path) -> bool:
    """Whether nobody tried to make it lately. Remembers that it is tried now, and makes room for it."""
    tried = archive.with_suffix(".tried")
    if tried.exists() and time.time() - tried.stat().st_mtime < SECONDS_TO_NEXT_TRY:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    others = sorted(archive.parent.glob("classes-*.jsa"), key=lambda other: other.stat().st_mtime, reverse=True)
    for other in others[MOST_ARCHIVES - 1 :]:
        other.unlink(missing_ok=True)
        other.with_suffix(".tried").unlink(missing_ok=True)
    tried.touch()
    return True
