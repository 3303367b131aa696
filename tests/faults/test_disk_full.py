"""The disk is full: a small tmpfs under the staging folder, or under the lake. Needs root, or sudo."""

import os
import shutil
import subprocess

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]


@pytest.fixture
def tmpfs(tmp_path):
    """Mount a tmpfs of a size at a folder, or give it another size."""
    mounted = []

    def mount(folder, size):
        folder.mkdir(exist_ok=True)
        options = f"size={size}" if folder not in mounted else f"remount,size={size}"
        subprocess.run([*SUDO, "mount", "-t", "tmpfs", "-o", f"{options},mode=1777", "tmpfs", str(folder)], check=True)
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run([*SUDO, "umount", "--lazy", str(folder)], check=True)


def test_a_full_staging_disk_stops_the_load_and_the_next_run_goes_on(faulty, tmpfs, tmp_path):
    tmpfs(tmp_path / "staging", "16m")
    faulty.set("load.build_rows=0", "load.build_share=0", f"load.staging={tmp_path / 'staging'}")
    faulty.prepare()
    tmpfs(tmp_path / "staging", "4k")

    answer = faulty.ended(faulty.process(None, "run", "--once"), 1)
    assert "No space left on device" in answer["message"]

    tmpfs(tmp_path / "staging", "16m")
    report = faulty.recover("disk full, staging", "tmpfs of 4 KiB")
    assert report.embedded == 0


def test_a_full_lake_disk_stops_the_run_and_the_next_goes_on(faulty, tmpfs, tmp_path):
    lake, aside = tmp_path / "lake", tmp_path / "aside"
    lake.rename(aside)
    tmpfs(lake, "64m")
    shutil.copytree(aside, lake, dirs_exist_ok=True)
    faulty.prepare()
    # What is there, and two pages more: the first files are still written.
    used = int(subprocess.run(["du", "-sk", str(lake)], capture_output=True, text=True, check=True).stdout.split()[0])
    tmpfs(lake, f"{used + 24}k")

    answer = faulty.ended(faulty.process(None, "run", "--once"), 1)
    assert "No space left on device" in answer["message"]

    tmpfs(lake, "64m")
    faulty.recover("disk full, lake", "tmpfs with 24 KiB left")
