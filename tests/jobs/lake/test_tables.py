import os
import shutil
import time
from datetime import UTC, datetime

import numpy as np
import pytest
import structlog
from lakevec.jobs.lake import tables
from lakevec.jobs.lake.freshness import metrics_row
from lakevec.jobs.lake.tables import METRICS, LakeTables
from pyspark.errors import PySparkException


def append_rows(lake: LakeTables, spark, number: int) -> None:
    row = metrics_row(str(number), datetime.now(UTC), np.ones(1))
    lake.append(METRICS, spark.createDataFrame([row], METRICS.schema))


def test_small_files_are_put_together_after_so_many_commits_and_no_row_is_lost(
    spark, empty_lake, tmp_path, monkeypatch
):
    monkeypatch.setattr(tables, "COMMITS_APART", 5)
    shutil.copytree(empty_lake, tmp_path / "lake")
    lake = LakeTables(spark, str(tmp_path / "lake"))
    first = lake.version(METRICS)

    files = []
    for number in range(6):
        append_rows(lake, spark, number)
        files.append(len(lake.read(METRICS).inputFiles()))

    assert min(files[1:]) == 1
    assert max(files) > 1
    assert [row["run"] for row in lake.read(METRICS).orderBy("run").collect()] == list("012345")
    # To put files together is a commit of its own, in which no row changed.
    assert lake.version(METRICS) == first + 7
    assert lake.changes(METRICS, first + 1, first + 7).count() == 6


@pytest.mark.parametrize("error", [PySparkException("somebody else wrote"), OSError("503: slow down")])
def test_files_that_cannot_be_put_together_cost_no_row(spark, empty_lake, tmp_path, monkeypatch, error):
    monkeypatch.setattr(tables, "COMMITS_APART", 1)
    shutil.copytree(empty_lake, tmp_path / "lake")
    lake = LakeTables(spark, str(tmp_path / "lake"))

    def fail(*_):
        raise error

    monkeypatch.setattr(LakeTables, "delta", fail)
    with structlog.testing.capture_logs() as logged:
        append_rows(lake, spark, 0)

    assert lake.read(METRICS).count() == 1
    assert [(entry["event"], entry["table"]) for entry in logged] == [("table.not_tidied", "metrics")]


def test_a_long_log_is_cut_and_what_only_old_versions_need_is_removed(spark, empty_lake, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "COMMITS_APART", 5)
    monkeypatch.setattr(tables, "COMMITS_TO_VACUUM", 10)
    monkeypatch.setattr(tables, "MOST_COMMITS", 12)
    monkeypatch.setattr(tables, "KEPT_COMMITS", 3)
    shutil.copytree(empty_lake, tmp_path / "lake")
    lake = LakeTables(spark, str(tmp_path / "lake"))
    folder = tmp_path / "lake" / "metrics"

    def commits() -> list[int]:
        return sorted(int(file.stem) for file in (folder / "_delta_log").glob("*.json"))

    written = 0
    lake.set_property(METRICS, "delta.deletedFileRetentionDuration", "interval 0 hours")
    lake.set_property(METRICS, "delta.checkpointInterval", "10")
    while 0 in commits():
        assert written < 25
        append_rows(lake, spark, written)
        written += 1
        # A version a minute, up to now.
        latest = commits()[-1]
        for version in commits():
            at = time.time() - 60 * (latest - version)
            os.utime(folder / "_delta_log" / f"{version:020}.json", (at, at))

    # From a checkpoint on that stands before all that are kept.
    assert commits()[0] == 10 <= lake.version(METRICS) - 3
    assert lake.read(METRICS).count() == written
    # Each commit wrote one at least.
    assert len(list(folder.glob("*.parquet"))) < written


def test_only_a_table_that_nobody_wrote_to_is_known_to_be_empty(spark, empty_lake, tmp_path):
    shutil.copytree(empty_lake, tmp_path / "lake")
    lake = LakeTables(spark, str(tmp_path / "lake"))
    assert lake.is_unwritten(METRICS)
    assert lake.present(METRICS).schema == lake.read(METRICS).schema
    assert lake.present(METRICS).isEmpty()
    append_rows(lake, spark, 1)

    assert not lake.is_unwritten(METRICS)
    assert [row["run"] for row in lake.present(METRICS).collect()] == ["1"]

    # Copied by a CLONE, or written as a whole: its first version has rows.
    rows = lake.read(METRICS).localCheckpoint()
    shutil.rmtree(tmp_path / "lake" / METRICS.name)
    rows.write.format("delta").save(str(tmp_path / "lake" / METRICS.name))
    assert lake.version(METRICS) == 0
    assert not lake.is_unwritten(METRICS)
    assert lake.present(METRICS).count() == 1
