"""The source goes away, wholly or in part."""

import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def test_a_source_that_is_unmounted_while_it_is_read_deletes_nothing(faulty):
    # More than those of which any share may go.
    for number in range(22):
        faulty.page(f"p{number}", "something", 2023 + number % 2)
    faulty.lakehouse.run()
    faulty.page("p0", "something else", 2023)
    faulty.page("p22", "something new", 2024)
    source = faulty.lakehouse.source

    answer = faulty.strike("source unmounted while it is read", "run", "--once", status=1, FAULT_SOURCE=str(source))
    assert answer["error"] == "SourceError"
    assert "Nothing was deleted" in answer["message"]
    assert faulty.sentences_in_milvus().total() == 22

    source.rmdir()
    shutil.move(source.with_name("unmounted"), source)
    faulty.recover("source unmounted in the middle of a run", "its folder empty from the first read on")


@pytest.mark.quick
def test_a_folder_that_cannot_be_read_stops_the_listing_and_deletes_nothing(faulty):
    faulty.page("p0", "something")
    faulty.page("deep/p1", "something")
    faulty.lakehouse.run()
    faulty.page("p2", "something new")

    process = faulty.process(
        None,
        *("run", "--once"),
        PYTHONPATH=str(Path(__file__).parent / "in_processes"),
        FAULT_IN_PROCESSES=f"unreadable:{faulty.lakehouse.source}/deep",
    )
    answer = faulty.ended(process, 1)
    assert answer["error"] == "SourceError"
    assert "Permission denied" in answer["message"]
    assert faulty.sentences_in_milvus().total() == 2

    faulty.recover("one unreadable sub-folder", "os.scandir refuses it")
