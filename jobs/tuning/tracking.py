"""A sweep in MLflow: a parent run, a child for each build and search setting, data, tags, tables and files."""

import os
import platform
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import structlog

from ..errors import ConfigurationError
from ..lake.lake import Lake
from ..lake.tables import EMBEDDINGS
from ..settings import Mlflow
from .grid import Setting
from .query_sets import QUESTIONS, QuerySet
from .store import StoreError, ToldClient, artifacts_beside, client_of, store_beside

# Sweeps have an experiment of their own, so that its table of runs has columns of one kind.
SUFFIX = "-tune"
SYSTEM_METRICS_SECONDS = 5


@dataclass(frozen=True)
class Store:
    """Where sweeps are logged. artifacts: set where the store is a database, which has no place for them."""

    uri: str
    experiment: str
    artifacts: str | None = None


def store_for(settings: Mlflow, lake_path: str) -> Store:
    """Raises ConfigurationError where there is none."""
    if not settings.experiment:
        raise ConfigurationError("mlflow.experiment is empty, but a sweep is kept in MLflow. Give the setting a name.")
    uri = settings.tracking_uri or store_beside(lake_path)
    if uri is None:
        raise ConfigurationError(
            "lake.path is no folder of this machine, so there is no place for MLflow's store beside it. Set "
            "mlflow.tracking_uri."
        )
    return Store(uri, settings.experiment + SUFFIX, artifacts_beside(uri, lake_path))


def reached(store: Store) -> ToldClient:
    """A client of a store that answers, and its registry too. Raises StoreError."""
    try:
        client = ToldClient(client_of(store.uri), store.uri)
        client.get_experiment_by_name(store.experiment)
        client.search_registered_models(max_results=1)
    except StoreError as error:
        raise StoreError(f"The sweep cannot be logged: {error} Nothing was built.") from error
    return client


class Sweep:
    """A parent run that is going on."""

    def __init__(self, client: Any, store: Store, experiment_id: str, run_id: str):
        self.client, self.store, self.experiment_id, self.run_id = client, store, experiment_id, run_id

    def child(
        self,
        setting: Setting,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        table: Mapping[str, Sequence[Any]] | None,
        failed: bool = False,
        seconds: float = 0.0,
    ) -> str:
        """A run of one setting, which took `seconds` until now. table: per-query results, by column."""
        run = self.client.create_run(
            self.experiment_id,
            start_time=round(1000 * (time.time() - seconds)),
            run_name=setting.name,
            tags={"mlflow.parentRunId": self.run_id, **self.shared, **tags},
        ).info.run_id
        self.log(run, {"index_type": setting.type, **setting.build, **setting.search}, metrics)
        if table is not None:
            self.client.log_table(run, dict(table), "queries.json")
        self.client.set_terminated(run, "FAILED" if failed else "FINISHED")
        return run

    def log(self, run: str, params: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        self.client.log_batch(
            run,
            [Metric(name, value, now, 0) for name, value in metrics.items()],
            [Param(name, str(value)) for name, value in params.items()],
        )

    shared: Mapping[str, str] = {}

    def data(self, lake: Lake, version: int, sets: Sequence[QuerySet]) -> None:
        """What was searched, and what for, on the parent run: the table and its version; of questions, their file."""
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        tables = lake.tables
        named = f"{tables.catalog_schema}.{EMBEDDINGS.name}" if tables.catalog_schema else None
        path = None if named else f"{tables.path}/{EMBEDDINGS.name}"
        table = DeltaDatasetSource(path=path, delta_table_name=named, delta_table_version=version)
        inputs = [(MetaDataset(table, name=f"embeddings@v{version}"), "base")]
        for each in sets:
            name = f"{each.name} {each.digest}"
            source = file_source(each.source) if each.name == QUESTIONS else table
            inputs.append((MetaDataset(source, name=name, digest=each.digest), f"queries: {each.source}"))
        self.client.log_inputs(
            self.run_id,
            [
                DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])
                for dataset, context in inputs
            ],
        )

    @contextmanager
    def files(self) -> Iterator[Path]:
        """A folder whose files become the parent run's artifacts."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            for path in sorted(Path(folder).iterdir()):
                self.client.log_artifact(self.run_id, str(path))


@contextmanager
def sweep(store: Store, name: str, params: Mapping[str, object], tags: Mapping[str, str]) -> Iterator[Sweep]:
    """A parent run; FAILED or KILLED where the block did not come to its end. System metrics are logged meanwhile.

    Raises StoreError where the store cannot be used.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    client = reached(store)
    try:
        found = client.get_experiment_by_name(store.experiment)
        experiment = found.experiment_id if found else client.create_experiment(store.experiment, store.artifacts)
        end_killed(client, experiment, tags)
        run = client.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id
        # The place of its files is another than the store, with drivers of its own.
        client.list_artifacts(run)
    except StoreError as error:
        raise StoreError(f"The sweep cannot be logged: {error} Nothing was built.") from error
    made = Sweep(client, store, experiment, run)
    made.shared = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    made.log(run, params, {})
    monitor = SystemMetricsMonitor(run, sampling_interval=SYSTEM_METRICS_SECONDS, tracking_uri=store.uri)
    monitor.start()
    ended = "FAILED"
    try:
        yield made
        ended = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        ended = "KILLED"
        raise
    finally:
        monitor.finish()
        try:
            client.set_terminated(run, ended)
        except StoreError as error:
            # Whatever the block gave or raised is worth more.
            structlog.get_logger().warning("tune.run_not_ended", run=run, status=ended, reason=str(error))


def end_killed(client: Any, experiment: str, tags: Mapping[str, str]) -> None:
    """Runs that a killed sweep of this lake left RUNNING. The caller holds the lock `tune`: none of them goes on."""
    if lake := tags.get("lake"):
        for run in client.search_runs([experiment], f"attributes.status = 'RUNNING' and tags.lake = '{lake}'"):
            client.set_terminated(run.info.run_id, "KILLED")


def file_source(path: str) -> Any:
    from mlflow.data.dataset_source_registry import resolve_dataset_source

    with warnings.catch_warnings():
        # It registers its source of local files twice, and warns that a path may mean either.
        warnings.simplefilter("ignore", UserWarning)
        return resolve_dataset_source(str(Path(path).expanduser().absolute()))


def surroundings() -> dict[str, str]:
    """Tags that say on what and by what it was measured."""
    return {
        "hardware": f"{processor()}, {os.cpu_count()} cores, {memory_bytes() / 2**30:.0f} GiB",
        "lakevec": metadata.version("lakevec"),
        "git_commit": commit() or "unknown",
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_bytes() -> int:
    import psutil

    return psutil.virtual_memory().total


def commit() -> str | None:
    """The commit of lakevec's own code, where it runs from a repository."""
    here = Path(__file__)
    try:
        # Elsewhere the repository is the user's.
        known, found = (
            subprocess.run(["git", "-C", str(here.parent), *words], capture_output=True, text=True)
            for words in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"])
        )
    except OSError:
        return None
    return found.stdout.strip() if known.returncode == found.returncode == 0 else None
