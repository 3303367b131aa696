import pytest
from lakevec.jobs.settings import Mlflow
from lakevec.jobs.tuning.build_run import Build, log_builds
from lakevec.jobs.tuning.store import store_beside
from mlflow.tracking import MlflowClient
from structlog.testing import capture_logs

BUILD = Build("2024", 1, {"index_type": "HNSW"}, 10, 2.0)


def mlflow(**values) -> Mlflow:
    return Mlflow.model_validate(values)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_store_of_a_folder_lies_beside_it(tmp_path, scheme):
    log_builds([BUILD], mlflow(experiment="builds"), f"{scheme}{tmp_path}/lake")

    client = MlflowClient(f"sqlite:///{tmp_path}/lake-mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("builds").experiment_id])
    assert run.data.metrics == {"rows": 10, "seconds": 2, "rows_per_second": 5}


def test_a_lake_in_a_bucket_has_no_store_and_says_how_to_have_one():
    assert store_beside("s3://bucket/lake") is None
    with capture_logs() as lines:
        log_builds([BUILD], mlflow(), "s3a://bucket/lake")
    assert [(line["event"], "set mlflow.tracking_uri" in line["reason"]) for line in lines] == [("mlflow.off", True)]


def test_a_store_that_fails_is_a_warning_without_secrets(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with capture_logs() as lines:
        log_builds([BUILD], mlflow(tracking_uri="http://me:secret@127.0.0.1:1"), "/lake")
    assert [(line["event"], line["log_level"]) for line in lines] == [("mlflow.failed", "warning")]
    assert "127.0.0.1" in lines[0]["reason"]
    assert "secret" not in lines[0]["reason"]
