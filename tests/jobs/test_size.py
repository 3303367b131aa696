import json
from dataclasses import replace

import pytest
from lakevec.jobs.cli import app
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.size import Demand, Rates, index_type, memory_bytes, size, whole_number
from typer.testing import CliRunner

RATES = Rates(
    parse_megabytes=1, chunk_passages=1000, embed_tokens_per_core=1000, embed_tokens_per_gpu=1_000_000, load_rows=500
)
DEMAND = Demand(3_600_000, 384, "FLAT", tokens=100, chunks_per_document=10, kilobytes=100, hours=10)


def test_hours_and_machines_follow_from_rates():
    found = size(DEMAND, RATES)

    assert found.documents == 360_000
    assert found.core_hours == {"ingest": 10, "chunk": 1, "embed": 100, "load": 2}
    assert found.gpu_hours == 0.1
    # 13 core hours in 10 hours are two cores, 113 are twelve.
    assert (found.executors, found.gpus, found.cpu_executors) == (1, 1, 2)
    # One stage after the other: GPUs take half of the time at most, the rest has what is left.
    quick = size(replace(DEMAND, hours=0.2), RATES)
    assert (quick.gpus, quick.executors) == (1, 17)
    assert size(replace(DEMAND, hours=0.01), RATES).gpus == 20
    assert found.partitions == 4


def test_memory_is_index_and_fields_with_headroom_and_room_to_build():
    fields, building = 3_600_000 * (400 + 376), 2_000_000 * 384 * 4 * 0.73
    assert size(DEMAND, RATES).memory_bytes["FLAT"] == round((3_600_000 * 384 * 4 + fields) * 1.42 + building)
    # Four partitions of 900,000 rows with 3,795 lists each.
    codes = 3_600_000 * (384 + 8) + 4 * 3795 * 384 * 4
    assert memory_bytes(replace(DEMAND, index="ivf_sq8"), 4) == round((codes + fields) * 1.42 + building)
    assert next(iter(size(replace(DEMAND, index="SCANN"), RATES).memory_bytes)) == "SCANN"


def test_a_collection_has_no_more_partitions_than_milvus_allows():
    assert size(replace(DEMAND, chunks=10_000_000_000), RATES).partitions == 1022


@pytest.mark.parametrize(
    ("text", "number"), [("150M", 150_000_000), ("1.5b", 1_500_000_000), ("20 k", 20_000), ("1_000,000", 1_000_000)]
)
def test_numbers_as_people_write_them(text, number):
    assert whole_number(text, "--chunks") == number


@pytest.mark.parametrize("text", ["", "M", "1T", "-1", "0", "0.2"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ConfigurationError, match=r"--chunks .*: expected a number"):
        whole_number(text, "--chunks")


def test_an_unknown_index_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"--index lsh: there is no such type\. Known: FLAT, HNSW"):
        index_type("lsh")


def test_the_command_answers_in_words_and_in_json():
    words = CliRunner().invoke(app, ["size", "--chunks", "150M", "--index", "hnsw"])
    assert "15,000,000 documents; 150 partitions by time" in words.output
    answer = CliRunner().invoke(app, ["--json", "size", "--chunks", "150M", "--dim", "768"])
    assert list(json.loads(answer.output)["memory_bytes"]) == ["IVF_SQ8", "FLAT", "HNSW", "IVF_PQ"]
    assert CliRunner().invoke(app, ["size", "--chunks", "many"]).exit_code == 2


@pytest.mark.parametrize(
    ("options", "is_told"),
    [([], False), (["--dim", "768"], True), (["--dim", "768", "--core-rate", "900"], True),
     (["--dim", "768", "--core-rate", "900", "--gpu-rate", "2e6"], False)],
)  # fmt: skip
def test_a_speed_that_is_another_models_is_told(options, is_told):
    words = CliRunner().invoke(app, ["size", "--chunks", "150M", *options]).output
    assert ("as quick as all-MiniLM-L6-v2's" in words) == is_told
    if "--core-rate" in options:
        assert f"embed {150e6 * 149 / 900 / 3600:,.1f}" in words
