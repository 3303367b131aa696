import subprocess
from pathlib import Path

import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.settings import Mlflow
from lakevec.jobs.tuning.tracking import commit, store_for


def mlflow(**values) -> Mlflow:
    return Mlflow.model_validate(values)


def test_sweeps_have_an_experiment_of_their_own_with_its_files_beside_the_lake():
    store = store_for(mlflow(), "/data/lake")
    assert store.uri == "sqlite:////data/lake-mlflow.db"
    assert store.experiment == "lakevec-tune"
    assert store.artifacts == "file:///data/lake-mlflow-artifacts"
    assert store_for(mlflow(tracking_uri="http://there"), "s3://b/lake").artifacts is None


@pytest.mark.parametrize(
    ("settings", "lake", "message"),
    [(mlflow(experiment=""), "/lake", "experiment is empty"), (mlflow(), "s3://b/lake", "Set mlflow.tracking_uri")],
)
def test_without_a_store_there_is_no_sweep(settings, lake, message):
    with pytest.raises(ConfigurationError, match=message):
        store_for(settings, lake)


def test_the_commit_is_lakevec_s_own(monkeypatch, tmp_path):
    here = Path(__file__).parents[3]
    head = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert commit() == (head.stdout.strip() if head.returncode == 0 else None)
    # Within somebody's repository, but none of its files.
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "tracking.py").write_text("")
    monkeypatch.setattr("lakevec.jobs.tuning.tracking.__file__", str(tmp_path / "tracking.py"))
    assert commit() is None
