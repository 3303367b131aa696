"""The sample: one command writes it, always the same, with every format and every year."""

import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def write_sample(target: Path) -> str:
    command = [sys.executable, str(NOTEBOOKS / "sample.py"), str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def files_of(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("sample")
    assert write_sample(target) == f"67 files written to {target}\n"
    return target


def test_two_runs_write_the_same_bytes_and_times(sample, tmp_path):
    write_sample(tmp_path)

    def content(folder: Path):
        return {name: (path.read_bytes(), os.stat(path).st_mtime) for name, path in files_of(folder).items()}

    assert content(tmp_path) == content(sample)


def test_every_format_is_there(sample):
    assert Counter(path.suffix for path in files_of(sample).values()) == {
        ".md": 16,
        ".pdf": 9,
        ".eml": 7,
        ".html": 6,
        ".docx": 5,
        ".json": 5,
        ".txt": 5,
        ".xlsx": 4,
        ".pptx": 3,
        ".rst": 3,
        ".mbox": 2,
        ".bin": 1,
        ".zip": 1,
    }


def test_every_year_from_2021_to_2026_holds_several_files(sample):
    years = Counter(datetime.fromtimestamp(path.stat().st_mtime, UTC).year for path in files_of(sample).values())
    assert years == {2021: 8, 2022: 11, 2023: 11, 2024: 16, 2025: 13, 2026: 8}


def test_texts_come_in_five_encodings(sample):
    assert "Företagsrådet" in (sample / "meetings/works-council-2022.txt").read_text("latin-1")
    assert "€ 0.18" in (sample / "handbook/canteen-and-guests.txt").read_text("cp1252")
    assert "北浜ベアリング" in (sample / "meetings/osaka-visit-2024.txt").read_text("shift_jis")
    assert "عمّان" in (sample / "letters/distributor-amman-2023.md").read_text("utf-8")
    assert (sample / "handbook/first-aid.txt").read_bytes().isascii()


def test_the_packed_slack_export_has_its_channels_and_users(sample):
    with zipfile.ZipFile(sample / "slack-export-2022-2023.zip") as archive:
        assert archive.namelist() == [
            "general/2022-03-08.json",
            "general/2023-08-31.json",
            "lighting-dev/2022-11-02.json",
            "lighting-dev/2023-03-27.json",
            "logistics/2022-10-19.json",
            "logistics/2023-05-15.json",
            "channels.json",
            "users.json",
        ]
        users = {user["id"]: user["real_name"] for user in json.loads(archive.read("users.json"))}
        announcement = json.loads(archive.read("general/2022-03-08.json"))[-1]
    assert f"{users[announcement['user']]}: {announcement['text']}" == (
        "Annika Brandt: This is no small thing, and nobody here is at fault. "
        f"<@{next(key for key, name in users.items() if name == 'Jonas Ek')}> leads, everything he asks for "
        "comes first today."
    )


def test_forty_questions_name_files_that_are_there_and_readable(sample):
    questions = [json.loads(line) for line in (NOTEBOOKS / "questions.jsonl").read_text("utf-8").splitlines()]
    named = {name for question in questions for name in question["relevant"]}
    assert len({question["query"] for question in questions}) == 40
    assert {grade for question in questions for grade in question["relevant"].values()} == {1, 2}
    assert all(2 in question["relevant"].values() for question in questions)
    assert named - files_of(sample).keys() == set()
    assert not any(name.startswith("unreadable/") for name in named)
