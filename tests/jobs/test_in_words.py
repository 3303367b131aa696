"""What is said to a person in few words."""

from dataclasses import replace

import pytest
from lakevec.jobs.in_words import verdict
from lakevec.jobs.verify import VerifyReport

WELL = VerifyReport(
    ok=True,
    current=True,
    moved=False,
    missing=0,
    extra=0,
    doubled=0,
    different=0,
    sampled=0,
    partitions={},
    lake={"embeddings_without_chunk": 0},
    behind={},
    left_over=[],
    examples={},
    repaired={},
    advice=[],
    seconds=0.0,
)
WRONG = replace(WELL, ok=False, current=False)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (WELL, "all is well"),
        (replace(WELL, current=False), "equal, but for what waits"),
        (replace(WRONG, advice=["Run `lakevec run --once`."]), "equal, but for what is advised"),
        (replace(WRONG, missing=1), "NOT EQUAL"),
        (replace(WRONG, lake={"embeddings_without_chunk": 1}, advice=["Run `lakevec run --once`."]), "NOT EQUAL"),
        # Counts that differ alone.
        (WRONG, "NOT EQUAL"),
    ],
)
def test_verify_says_equal_of_what_is_equal_alone(report, words):
    assert verdict(report) == words
