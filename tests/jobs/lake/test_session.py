import os

import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.lake.jars import delta_package, fetching, ivy_folder
from lakevec.jobs.lake.session import for_a_long_run, local_cores, require_java
from lakevec.jobs.settings import Spark, load_settings

PACKAGES, JARS, IVY = "spark.jars.packages", "spark.jars", "spark.jars.ivy"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache; gives what fills it with one JAR."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fill() -> str:
        jar = ivy_folder() / "jars" / "delta.jar"
        jar.parent.mkdir(parents=True, exist_ok=True)
        jar.touch()
        return str(jar)

    return fill


def conf_for(**own: str) -> dict[str, str]:
    with fetching({f"spark.{name.replace('_', '.')}": value for name, value in own.items()}) as conf:
        return conf


def test_deltas_jars_are_fetched_once(cache):
    with fetching({}) as first:
        jar = cache()
    assert first == {PACKAGES: delta_package(), IVY: str(ivy_folder())}
    assert conf_for() == {JARS: jar}


def test_the_users_own_jars_and_packages_stay(cache):
    assert conf_for(jars_packages="a:b:1") == {PACKAGES: f"a:b:1,{delta_package()}"}
    jar = cache()
    # A fetch that went to the user's own folder made nothing of ours complete.
    assert conf_for(jars="/mine.jar") == {JARS: "/mine.jar", PACKAGES: delta_package(), IVY: str(ivy_folder())}
    assert conf_for(jars="/mine.jar", jars_packages="a:b:1") == {JARS: f"/mine.jar,{jar}", PACKAGES: "a:b:1"}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Unable to locate a Java Runtime.' >&2; exit 1", "there is none that runs"),
        ("echo 'openjdk version \"11.0.2\"' >&2", "is version 11"),
        ("echo 'java version \"1.8.0_392\"' >&2", "is version 1"),
    ],
)
def test_a_java_that_will_not_do_is_told(monkeypatch, tmp_path, script, message):
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigurationError, match=f"{message}.*Install a Java 17 runtime"):
        require_java()


def test_a_long_run_has_more_tasks_at_a_time_and_the_second_compiler_and_what_somebody_set_stays():
    short = load_settings("local", [], {}).spark
    long = for_a_long_run(short)
    assert long.master == f"local[{2 * os.cpu_count()}]"
    assert "-XX:TieredStopAtLevel=1" in short.conf["spark.driver.extraJavaOptions"]
    assert long.conf == {**short.conf, "spark.driver.extraJavaOptions": "-XX:ReservedCodeCacheSize=256m"}

    given = load_settings(
        "local", ["spark.master=local[3]", "spark.conf.spark.driver.extraJavaOptions=-Xss2m"], {}
    ).spark
    assert for_a_long_run(given) == given
    assert for_a_long_run(Spark()) == Spark()


@pytest.mark.parametrize(
    ("master", "cores"),
    [("local", 1), ("local[2]", 2), ("local[2,3]", 2), ("local[9]", 4), ("local[*]", 4)]
    + [(cluster, None) for cluster in ("local-cluster[2,1,1024]", "spark://there:7077", "yarn", "", None)],
)
def test_cores_are_those_of_a_master_on_this_machine_and_no_more_than_there_are(monkeypatch, master, cores):
    monkeypatch.setattr("os.cpu_count", lambda: 4)

    assert local_cores(master) == cores
