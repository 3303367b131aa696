"""One lake: its tables, and what was settled when it was made (model, quantisation, chunking, granularity)."""

import platform
import uuid
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pyspark.sql import SparkSession

from ...udfs.bert import is_bert
from ...udfs.chunk import Chunking, ChunkingError, check_chunking
from ...udfs.linear import is_x86
from ...udfs.model import INT8, Model, ModelNotFound, find_model
from ..errors import ConfigurationError
from ..settings import Granularity, Settings
from .migration import bring_up_to_date, check_is_new, migrate, needed, state
from .storage import lake_path, no_lake
from .tables import EMBEDDINGS, TABLES, LakeTables

WAY_ON = (
    "The tables and Milvus hold what was made with it; mixing two would spoil both. Leave the setting out to go "
    "on with this lake, or give another lake.path (and milvus.collection) for a new one."
)


@dataclass(frozen=True)
class Lake:
    tables: LakeTables
    lake_id: str
    model: Model
    chunking: Chunking
    granularity: Granularity
    # The number format of its vectors where that leaves them near to the exact ones, but not the same.
    quantised: str | None = None

    def checkpoint(self, stage: str) -> str:
        return f"{self.tables.path}/_checkpoints/{stage}"


def open_lake(spark: SparkSession, settings: Settings, create: bool = False, held: Collection[str] = ()) -> Lake:
    """The lake at lake.path; with `create`, made where there is none.

    held: the stages whose locks the caller has (lock.py): a writer, for which tables of an older lakevec
    are brought up to date; readers are told to let one do it.
    Model, quantisation, chunking and granularity are recorded when it is made. An explicit other value is a
    ConfigurationError; one that nobody set follows the lake.
    """
    tables = LakeTables(spark, lake_path(settings), settings.lake.catalog_schema)
    if not tables.exists(EMBEDDINGS):
        check_is_new(tables)
        if not create:
            raise no_lake(tables.path)
        return make_lake(tables, settings)
    bring_up_to_date(tables, settings, held)
    recorded = {
        key.removeprefix("lakevec."): value
        for key, value in tables.properties(EMBEDDINGS).items()
        if key.startswith("lakevec.")
    }
    model = recorded_model(settings, recorded)
    return Lake(
        tables,
        recorded["lake_id"],
        model,
        recorded_chunking(settings, recorded, model),
        recorded_granularity(settings, recorded),
        recorded_quantisation(settings, recorded),
    )


def make_lake(tables: LakeTables, settings: Settings) -> Lake:
    model = known_model(settings.model.name)
    chunking = Chunking(settings.chunk.strategy, settings.chunk.tokens, settings.chunk.overlap)
    checked(chunking, model)
    quantised = INT8 if settings.model.dtype == INT8 else None
    if quantised and not is_bert(Path(model.path)):
        raise ConfigurationError(f"model.dtype is int8, which only a BERT is computed in, and {model.name} is none.")
    if quantised and not is_x86():
        raise ConfigurationError(
            f"model.dtype is int8, which needs x86 CPUs, and this machine is {platform.machine()}."
        )
    lake = Lake(tables, uuid.uuid4().hex[:16], model, chunking, settings.partition.granularity, quantised)
    recorded = {
        "lakevec.lake_id": lake.lake_id,
        "lakevec.model_name": model.name,
        "lakevec.model_id": model.id,
        "lakevec.chunking": chunking.id,
        "lakevec.granularity": lake.granularity,
        "lakevec.quantised": quantised or "",
    }
    # `embeddings` comes last: once it is there, all are.
    others = [table for table in TABLES if table is not EMBEDDINGS]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda table: tables.create(table, {}), others))
    # Some may be what an older lakevec left when it died here.
    migrate(tables, needed({table: state(tables, table) for table in others}))
    tables.create(EMBEDDINGS, recorded)
    return lake


def recorded_model(settings: Settings, recorded: dict[str, str]) -> Model:
    if "model.name" in settings.explicit:
        model = known_model(settings.model.name)
        if model.id != recorded["model_id"]:
            raise refusal("model.name", settings.model.name, f"{recorded['model_name']} ({recorded['model_id']})")
        return model
    model = known_model(recorded["model_name"])
    if model.id != recorded["model_id"]:
        raise ConfigurationError(
            f"The model {recorded['model_name']} is now {model.id}, but this lake was made with "
            f"{recorded['model_id']}. Put the old weights back, or give another lake.path for a new lake."
        )
    return model


def recorded_chunking(settings: Settings, recorded: dict[str, str], model: Model) -> Chunking:
    chunking = Chunking.from_id(recorded["chunking"])
    explicit = {
        key: getattr(settings.chunk, key)
        for key in ("strategy", "tokens", "overlap")
        if f"chunk.{key}" in settings.explicit
    }
    # What no lake could be made with is said before what this one was made with.
    checked(replace(chunking, **explicit), model)
    for key, wanted in explicit.items():
        if wanted != getattr(chunking, key):
            raise refusal(f"chunk.{key}", wanted, getattr(chunking, key))
    return chunking


def recorded_granularity(settings: Settings, recorded: dict[str, str]) -> Granularity:
    wanted, present = settings.partition.granularity, recorded["granularity"]
    if "partition.granularity" in settings.explicit and wanted != present:
        raise refusal("partition.granularity", wanted, present)
    return present  # pyright: ignore[reportReturnType]


def recorded_quantisation(settings: Settings, recorded: dict[str, str]) -> str | None:
    # Lakes of before int8 say nothing.
    present, wanted = recorded.get("quantised") or None, settings.model.dtype
    if "model.dtype" in settings.explicit and (wanted == INT8) != (present == INT8):
        raise refusal("model.dtype", wanted, present or "vectors that are not quantised")
    return present


def refusal(setting: str, wanted: object, present: object) -> ConfigurationError:
    return ConfigurationError(f"{setting} is {wanted}, but this lake was made with {present}. {WAY_ON}")


def known_model(name: str) -> Model:
    try:
        return find_model(name)
    except ModelNotFound as error:
        raise ConfigurationError(f"model.name: {error}") from error


def checked(chunking: Chunking, model: Model) -> None:
    try:
        check_chunking(chunking, model.window)
    except ChunkingError as error:
        raise ConfigurationError(str(error)) from error
