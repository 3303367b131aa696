"""Each build as a run in MLflow: what was built, of what, how fast."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ..settings import Mlflow


@dataclass(frozen=True)
class Build:
    """One generation that was built: `params` as they are logged, and its size and duration."""

    range: str
    generation: int
    params: Mapping[str, object]
    rows: int
    seconds: float


def log_builds(builds: list[Build], settings: Mlflow, lake_path: str) -> None:
    """One finished run per build in the experiment `mlflow.experiment`; none where that is empty.

    The store is mlflow.tracking_uri, by default SQLite beside the lake.
    """
    if not builds or not settings.experiment:
        return
    # MLflow takes seconds to import, and most loads build nothing.
    from mlflow.tracking import MlflowClient

    # They tell of every step of the database's making.
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    client = MlflowClient(settings.tracking_uri or f"sqlite:///{lake_path}-mlflow.db")
    found = client.get_experiment_by_name(settings.experiment)
    experiment = found.experiment_id if found else client.create_experiment(settings.experiment)
    for build in builds:
        run = client.create_run(experiment, run_name=f"build {build.range} g{build.generation}").info.run_id
        params = {"range": build.range, "generation": build.generation, **build.params}
        for name, value in params.items():
            client.log_param(run, name, value)
        metrics = {
            "rows": build.rows,
            "seconds": build.seconds,
            "rows_per_second": build.rows / build.seconds,
        }
        for name, value in metrics.items():
            client.log_metric(run, name, value)
        client.set_terminated(run)
