"""The chosen index in MLflow's model registry: under the alias `champion`, the one before it under `previous`.

`applied` names the one that `lakevec tune --apply` has proved on the live collection: what `lakevec load`
makes a collection with.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..lake.lake import Lake
from ..lake.storage import local_path
from ..lake.tables import TRUTH
from ..settings import Index, Settings
from ..vectors.index import VectorIndex
from ..vectors.routes import Routes
from .store import StoreError, client_of, reason_of
from .tracking import Store, store_for

CHAMPION, PREVIOUS, APPLIED = "champion", "previous", "applied"


@dataclass(frozen=True)
class Registered:
    """A version of the registered model. promise: what it was chosen to keep, and what was measured."""

    name: str
    version: str
    index: VectorIndex
    promise: Mapping[str, float]


def registered_name(settings: Settings, lake: Lake) -> str:
    """One for each index of a lake; in a catalogue, where the tables are."""
    name = f"{settings.milvus.collection}-{lake.lake_id}"
    return f"{settings.lake.catalog_schema}.{name.replace('-', '_')}" if settings.lake.catalog_schema else name


def register(client: Any, name: str, run_id: str, index: VectorIndex, promise: Mapping[str, float]) -> Registered:
    """A new version with the alias `champion`; the one that had it keeps its version, as `previous`."""
    try:
        if not client.search_registered_models(filter_string=f"name = '{name}'"):
            client.create_registered_model(name, description="The vector index of a lake, chosen by `lakevec tune`")
        before = client.get_registered_model(name).aliases.get(CHAMPION)
        made = client.create_model_version(
            name,
            source=f"{client.get_run(run_id).info.artifact_uri}/choice.yaml",
            run_id=run_id,
            tags={
                "index_type": index.type,
                "build": json.dumps(index.build, sort_keys=True),
                "search": json.dumps(index.search, sort_keys=True),
                **{key: repr(value) for key, value in promise.items()},
            },
        )
        if before is not None:
            client.set_registered_model_alias(name, PREVIOUS, before)
        client.set_registered_model_alias(name, CHAMPION, made.version)
    except StoreError as error:
        raise StoreError(f"The choice could not be registered as {name}: {error} Its run is {run_id}.") from error
    return Registered(name, made.version, index, promise)


def mark_applied(client: Any, name: str, version: str) -> None:
    client.set_registered_model_alias(name, APPLIED, version)


def read_registered(store: Store, name: str, alias: str) -> Registered | None:
    """The version behind an alias; None where there is none."""
    try:
        found = client_of(store.uri).get_model_version_by_alias(name, alias)
    except Exception as error:  # Its own errors, and those of HTTP and of databases.
        if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise StoreError(
            f"Which index {name} had could not be read from MLflow's registry: {reason_of(error)} See "
            "mlflow.tracking_uri, or set index.type."
        ) from error
    tags = dict(found.tags)
    index = VectorIndex(tags.pop("index_type"), json.loads(tags.pop("build")), json.loads(tags.pop("search")))
    return Registered(name, str(found.version), index, {key: float(value) for key, value in tags.items()})


def index_settings(settings: Settings, lake: Lake, routes: Routes | None, is_lost: bool) -> Index:
    """The index that a load asks for: what somebody set, else for a collection that must be made what it had.

    routes: the lake's own. is_lost: they are there, and their collection is not. Without routes it is the index
    that was applied last.
    """
    if any(name.startswith("index.") for name in settings.explicit) or (routes and not is_lost):
        return settings.index
    found = routes.index if routes else applied_index(settings, lake)
    return Index.model_validate(asdict(found)) if found else settings.index


def searched_as_before(index: VectorIndex, published: VectorIndex | None, settings: Settings) -> VectorIndex:
    """The index with the search parameters that its readers have, where nobody set others."""
    if published is None or (published.type, published.build) != (index.type, index.build):
        return index
    return index if "index.search" in settings.explicit else published


def applied_index(settings: Settings, lake: Lake) -> VectorIndex | None:
    """The index that `lakevec tune --apply` proved for this lake, if it did. Quick where no store is."""
    # A lake that was never tuned needs no registry.
    if not settings.mlflow.experiment or not lake.tables.exists(TRUTH):
        return None
    beside = local_path(f"{lake.tables.path}-mlflow.db")
    if settings.mlflow.tracking_uri is None and (beside is None or not beside.is_file()):
        return None
    store = store_for(settings.mlflow, lake.tables.path)
    found = read_registered(store, registered_name(settings, lake), APPLIED)
    return found.index if found else None
