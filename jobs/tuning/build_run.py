"""Each build as a run in MLflow: what was built, of what, how fast."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from ..credentials import without_credentials
from ..settings import Mlflow
from .store import artifacts_beside, client_of, store_beside


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

    The store is mlflow.tracking_uri, by default SQLite beside a lake that is a folder. What the lake and
    Milvus hold does not depend on it: without a store, or with one that fails, there is a line in the log.
    """
    if not builds or not settings.experiment:
        return
    store = settings.tracking_uri or store_beside(lake_path)
    if store is None:
        structlog.get_logger().info(
            "mlflow.off", reason="lake.path is no folder of this machine: set mlflow.tracking_uri to have builds logged"
        )
        return
    try:
        write_runs(builds, settings.experiment, store, artifacts_beside(store, lake_path))
    except Exception as error:  # It raises its own errors, and those of HTTP and of databases.
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        structlog.get_logger().warning(
            "mlflow.failed",
            reason=without_credentials(reason),
            builds=len(builds),
            advice="the index is complete; see mlflow.tracking_uri, or set mlflow.experiment to nothing",
        )


def write_runs(builds: list[Build], experiment_name: str, store: str, artifacts: str | None) -> None:
    client = client_of(store)
    found = client.get_experiment_by_name(experiment_name)
    experiment = found.experiment_id if found else client.create_experiment(experiment_name, artifacts)
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
