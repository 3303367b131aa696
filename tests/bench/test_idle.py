"""What a run costs that finds nothing new, by the number of files: LAKEVEC_BENCH_LISTED, such as "10000 100000".

Vectors are synthetic, so that nothing is embedded; listing, Delta and Milvus are real.
"""

import os
import time

import pytest
from lakevec.jobs.lake.listing import list_now
from lakevec.jobs.lake.source import source_root
from lakevec.jobs.lake.tables import CHUNKS, VECTORS
from lakevec.jobs.run import STAGES
from pyspark.sql import functions as F

SIZES = [int(number) for number in os.environ.get("LAKEVEC_BENCH_LISTED", "10000").split()]
FILES_PER_FOLDER, ROUNDS = 1000, 5

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("files", SIZES)
def test_nothing_new(new_lakehouse, tmp_path, files, keep):
    lakehouse = new_lakehouse(
        tmp_path,
        "index.type=FLAT",
        f"load.staging={tmp_path / 'staging'}",
        "mlflow.experiment=",
        "ingest.max_files=20000",
    )
    for number in range(files):
        lakehouse.write(f"{number // FILES_PER_FOLDER}/{number}.txt", f"What is said in text number {number}.")
    begun = time.monotonic()
    for stage in ("ingest", "chunk"):
        lakehouse.run((stage,))
    lake = lakehouse.lake()
    parts = [(F.rand(seed=place) - 0.5).cast("float") for place in range(lake.model.dimension)]
    lake.tables.append(
        VECTORS,
        lake.tables.read(CHUNKS).select(
            "content_hash", F.lit(lake.model.id).alias("model_id"), F.array(*parts).alias("vector")
        ),
    )
    report = lakehouse.run()
    assert (report.embedded, report.loaded) == (0, files)
    first_seconds = time.monotonic() - begun

    rounds, source = [], lakehouse.settings.source
    for _ in range(ROUNDS):
        reports = {stage: lakehouse.run((stage,)) for stage in STAGES}
        assert reports["ingest"].files_seen == files
        assert not any((each.documents, each.chunks, each.loaded) != (0, 0, 0) for each in reports.values())
        # What a continuous run does at each trigger, beside a comparison of two such lists in memory.
        begun = time.monotonic()
        assert len(list_now(source_root(str(source.path)), source.include, source.exclude)) == files
        walk = round(time.monotonic() - begun, 3)
        rounds.append({"walk": walk} | {stage: each.stages[stage]["seconds"] for stage, each in reports.items()})
    keep({"files": files, "first_seconds": round(first_seconds), "nothing_new": rounds})
