"""The Spark session: where it runs, with which JARs; all that needs sparkContext or the JVM stands here."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from ..errors import ConfigurationError, LakevecError
from ..settings import Spark
from .class_archive import JAVA_OPTIONS, with_class_archive
from .jars import cache_folder, fetching

GET_JAVA = (
    "Install a Java 17 runtime (Debian and Ubuntu: apt install openjdk-17-jre-headless; macOS: brew install "
    "openjdk@17) and put it on the PATH or name its folder in JAVA_HOME."
)
FIRST_COMPILER_ALONE = "-XX:TieredStopAtLevel=1"
# A master whose tasks run in the driver's process, and of how many cores.
LOCAL = re.compile(r"local(?:\[(\*|\d+)(?:,\d+)?\])?")


def spark_session(settings: Spark, keeps_classes: bool = False) -> SparkSession:
    """The session that is there (Databricks, a notebook), or a new one by `settings`.

    Delta's JARs are fetched once into the user's cache and named as files from then on, which
    starts a session in half the time. The first one with `keeps_classes` that finds them there leaves an archive of its
    classes beside them (class_archive.py), which all later ones begin with.
    """
    present = SparkSession.getActiveSession()
    if present is not None or "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return present or SparkSession.builder.getOrCreate()
    java = require_java()
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName("lakevec")
    if settings.master:
        builder = builder.master(settings.master)
    with fetching(settings.conf) as conf:
        # One that has JARs fetched is slow enough.
        conf = with_class_archive(conf, java, keeps_classes and "spark.jars.packages" not in conf)
        builder = builder.config(map=dict(conf))
        with jvm_output_to(spark_log()):
            spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel(settings.conf.get("spark.log.level", "WARN"))
    return spark


def for_a_long_run(settings: Spark) -> Spark:
    """Twice as many tasks at a time on one machine, and the JVM's second compiler, for stages that run together.

    While embedding holds as many tasks as there are cores, the small tasks of the other stages find a
    place. A number of cores that somebody set stays. Code that is compiled twice is quicker by a fifth or more, but
    only after minutes.
    """
    conf, master = dict(settings.conf), settings.master
    if JAVA_OPTIONS in conf:
        conf[JAVA_OPTIONS] = " ".join(each for each in conf[JAVA_OPTIONS].split() if each != FIRST_COMPILER_ALONE)
    if master == "local[*]":
        master = f"local[{2 * (os.cpu_count() or 1)}]"
    return settings.model_copy(update={"master": master, "conf": conf})


def spark_log() -> Path:
    """Where the JVM and the Python workers write what they have to say."""
    return cache_folder() / "spark.log"


@contextlib.contextmanager
def jvm_output_to(log: Path) -> Iterator[None]:
    """Give the JVM that is started meanwhile a log file for its output.

    The terminal belongs to progress and answers, stdout to `--json`; the JVM inherits both otherwise.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        except Exception as error:
            raise LakevecError(f"Spark did not start: {error}. Its own words are in {log}.") from error
        finally:
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


def require_java() -> str:
    """What Java says of its version. Says what is missing before Spark's launcher fails in its own words."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(Path(home) / "bin" / "java" if home else "java")
    # On macOS there is a /usr/bin/java that only says that there is none.
    said = java_version(java) if java else None
    version = said and re.search(r'version "(\d+)[^"]*".*', said, re.DOTALL)
    if not version:
        where = f"JAVA_HOME is {home}, but there is no Java that runs" if home else "there is none that runs"
        raise ConfigurationError(f"Spark needs Java, and {where}. {GET_JAVA}")
    if int(version[1]) < 17:
        raise ConfigurationError(f"Spark needs Java 17 or newer; {java} is version {version[1]}. {GET_JAVA}")
    # Not what it may say of options before.
    return version[0]


def java_version(java: str) -> str | None:
    """What an executable says of its version; None where it does not run."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True)
    except OSError:
        return None
    return said.stderr if said.returncode == 0 else None


def materialised(frame: DataFrame) -> DataFrame:
    """The same rows, computed once: what follows sees one state and pays once.

    Where the cluster cannot keep rows (serverless), the frame itself is returned.
    """
    try:
        return frame.localCheckpoint(eager=True)
    except AnalysisException as error:
        if "NOT_SUPPORTED" in (error.getCondition() or ""):
            return frame
        raise


def delta_state(spark: SparkSession, path: str) -> tuple[str, int] | None:
    """The id of the Delta table in a folder, and its newest version; None where its log cannot be asked.

    Delta's Python half tells it through a Spark job over the history, in ten times the time.
    """
    try:
        jvm: Any = spark._jvm
        log = jvm.org.apache.spark.sql.delta.DeltaLog
        snapshot = log.forTableWithSnapshot(spark._jsparkSession, path)._2()
        return snapshot.metadata().id(), snapshot.version()
    # Spark Connect has no JVM at hand, Databricks has classes of its own.
    except (Py4JError, AttributeError, TypeError, PySparkException):
        return None


def expire_log(spark: SparkSession, path: str, age: timedelta) -> None:
    """Remove what the log of a Delta table tells of commits of this age, which Delta itself does by the day only.

    What later versions need stays. Where the log cannot be asked (`delta_state`), nothing is done.
    """
    try:
        jvm: Any = spark._jvm
        delta = jvm.org.apache.spark.sql.delta
        opened = delta.DeltaLog.forTableWithSnapshot(spark._jsparkSession, path)
        minute = getattr(getattr(delta, "TruncationGranularity$"), "MODULE$").MINUTE()
        # A Python number would come as an Integer.
        gateway: Any = spark.sparkContext._gateway
        numbers = gateway.new_array(jvm.long, 1)
        numbers[0] = age // timedelta(milliseconds=1)
        milliseconds = jvm.scala.Predef.wrapLongArray(numbers).headOption()
        opened._1().cleanUpExpiredLogs(opened._2(), jvm.scala.Option.empty(), milliseconds, minute)
    except (AttributeError, TypeError):
        return


ONE_AT_A_TIME = threading.Lock()


@contextlib.contextmanager
def workers_of_their_own(spark: SparkSession, name: str) -> Iterator[None]:
    """Functions that are put to use meanwhile run in Python workers that run no others.

    Spark hands a task to any worker that rests; workers with another environment are others. So a model
    is loaded by as many workers as there are tasks at once, and not by all that ever parsed a file.
    """
    try:
        context = spark.sparkContext
    except PySparkException:
        # Spark Connect has no sparkContext; there each session has its workers.
        yield
        return
    with ONE_AT_A_TIME:
        environment = context.environment
        # Another dictionary, not another entry: threads that name functions meanwhile go through the one they found.
        context.environment = {**environment, "LAKEVEC_WORKERS": name}
        try:
            yield
        finally:
            context.environment = environment


def local_cores(master: str | None) -> int | None:
    """How many cores tasks have where they run in the driver's process; None of a cluster."""
    found = LOCAL.fullmatch(master or "")
    if not found:
        return None
    present = os.cpu_count() or 1
    return present if found[1] == "*" else min(int(found[1] or 1), present)


def is_one_machine(spark: SparkSession) -> bool:
    """Whether tasks run in the driver's process, where Spark schedules no GPUs."""
    return local_cores(spark.conf.get("spark.master", None)) is not None


def parallel_tasks(spark: SparkSession) -> int:
    """How many tasks run at once: what work is cut by."""
    master = spark.conf.get("spark.master", "") or ""
    if cores := local_cores(master):
        return cores
    if cluster := re.fullmatch(r"local-cluster\[(\d+),(\d+),\d+\]", master):
        return int(cluster.group(1)) * int(cluster.group(2))
    try:
        return spark.sparkContext.defaultParallelism
    except PySparkException:
        # Spark Connect has no sparkContext.
        return int(spark.conf.get("spark.default.parallelism", "8") or 8)
