"""What make says on a machine where something is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make")


@pytest.fixture
def make(tmp_path):
    """Run a target where there is nothing but a shell, sed, head, and the scripts that the test writes."""
    for tool in ("bash", "sed", "head"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))

    def run(*arguments: str, **scripts: str) -> tuple[int, str]:
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!{tmp_path / 'bash'}\n{script}\n")
            (tmp_path / name).chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "MAKEFLAGS")}
        done = subprocess.run(
            [str(MAKE), "-C", str(ROOT), "--no-print-directory", *arguments],
            env={**environment, "PATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Unable to locate a Java Runtime.' >&2; exit 1", "java does not run. Install a Java 17 runtime"),
        ("echo 'openjdk version \"11.0.2\"' >&2", "java is version 11. Install a Java 17 runtime"),
        ("echo 'java version \"1.8.0_392\"' >&2", "java is version 1. Install a Java 17 runtime"),
    ],
)
def test_a_java_that_will_not_do_is_told_before_anything_else(make, script, said):
    status, output = make("setup", java=script)

    assert (status, said in output) == (2, True)


def test_without_java_it_says_how_to_get_it(make):
    status, output = make("setup")

    assert (status, "java does not run. Install a Java 17 runtime" in output) == (2, True)


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea"])
def test_a_newer_java_will_do(make, version):
    assert make("java", java=f"echo 'openjdk version \"{version}\"' >&2") == (0, "")


def test_an_old_python_is_told(make):
    old = 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac'

    status, output = make("python", python3=old)

    assert (status, output) == (
        2,
        "lakevec needs Python 3.11 or newer, and python3 is Python 3.9.2. Name another one, as in: "
        "make python PYTHON=python3.12\n",
    )


def test_without_uv_and_pip_it_says_what_to_install(make):
    no_modules = 'case "$1" in -m) exit 1;; esac'

    status, output = make("lock", python3=no_modules)

    assert (status, "apt install python3-pip" in output) == (2, True)
