"""The collection of one (lake, model, chunking) behind its alias."""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pymilvus import DataType, MilvusClient, MilvusException

from ..errors import ConfigurationError, MilvusError
from ..settings import Index
from .index import BUILD, FIXED, FLAGS, METRIC, VectorIndex, vector_index
from .patience import retrying
from .rows import COLUMNS, TEXT_BYTES, VECTOR

LAKE_ID, MODEL_ID, CHUNKING = "lakevec.lake_id", "lakevec.model_id", "lakevec.chunking"
ANOTHER_NAME = "Give another milvus.collection."


@dataclass(frozen=True)
class Owner:
    """Whose vectors a collection holds. Set at its creation, never changed."""

    lake_id: str
    model_id: str
    chunking: str
    dimension: int

    @property
    def properties(self) -> dict[str, str]:
        return {LAKE_ID: self.lake_id, MODEL_ID: self.model_id, CHUNKING: self.chunking}

    def collection_name(self, alias: str) -> str:
        made_with = hashlib.sha256(f"{self.model_id}\n{self.chunking}".encode()).hexdigest()
        return f"{alias}_{self.lake_id[:8]}_{made_with[:8]}"


def open_collection(
    client: MilvusClient, alias: str, owner: Owner, settings: Index, explicit: Collection[str], rows: int
) -> tuple[str, VectorIndex]:
    """The collection behind `alias` and its index, both made where they are missing.

    explicit: settings that somebody set: an index that is there is followed otherwise.
    rows: vectors of the largest time range, for the index's defaults.
    Raises MilvusError where the alias belongs to another lake or is a plain collection, and
    ConfigurationError where an explicit index setting differs from the index that is there.
    """
    # As a whole: a collection that a first try made is found by the second, not made again.
    return retrying()(open_or_make, client, alias, owner, settings, explicit, rows)


def open_or_make(
    client: MilvusClient, alias: str, owner: Owner, settings: Index, explicit: Collection[str], rows: int
) -> tuple[str, VectorIndex]:
    wanted = vector_index(settings, owner.dimension, rows)
    found = check_alias(client, alias, owner)
    name = found or owner.collection_name(alias)
    if not client.has_collection(name):
        client.create_collection(name, schema=schema(owner.dimension), properties=owner.properties)
    if found is None:
        check_owner(client, name, alias, owner)
    index = present_index(client, name)
    if index is None:
        create_index(client, name, wanted)
    if found is None:
        # The alias comes last: whoever finds it finds a whole collection.
        point_alias(client, alias, name)
    return name, followed(index, settings, explicit, alias, owner.dimension) if index else wanted


def aliased(client: MilvusClient, alias: str) -> str | None:
    """The collection behind an alias; None where there is no such alias."""
    if not client.has_collection(alias):
        return None
    name = client.describe_collection(alias)["collection_name"]
    return None if name == alias else name


def point_alias(client: MilvusClient, alias: str, name: str) -> None:
    """Let an alias name a collection, whatever it named before."""
    if aliased(client, alias) is not None:
        client.alter_alias(name, alias)
        return
    try:
        client.create_alias(name, alias)
    except MilvusException as error:
        # The alias outlives a collection that somebody dropped.
        if "already exist" not in str(error):
            raise
        client.alter_alias(name, alias)


def check_alias(client: MilvusClient, alias: str, owner: Owner) -> str | None:
    """The collection behind an alias; None where there is none.

    Raises MilvusError where it is another owner's, or no alias but a collection.
    """
    found = aliased(client, alias)
    if found is None and client.has_collection(alias):
        raise MilvusError(f"Milvus has a collection {alias} that lakevec did not make. {ANOTHER_NAME}")
    if found is not None:
        check_owner(client, found, alias, owner)
    return found


def check_owner(client: MilvusClient, name: str, alias: str, owner: Owner) -> None:
    found = client.describe_collection(name)["properties"]
    for key, wanted in owner.properties.items():
        if found.get(key) != wanted:
            what = {LAKE_ID: "another lake", MODEL_ID: "another model", CHUNKING: "another chunking"}[key]
            raise MilvusError(
                f"The collection {alias} in Milvus belongs to {what} ({found.get(key, 'unknown')}, this is {wanted}). "
                f"{ANOTHER_NAME}"
            )


def schema(dimension: int) -> Any:
    fields = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for name in COLUMNS:
        if name in TEXT_BYTES:
            fields.add_field(name, DataType.VARCHAR, max_length=TEXT_BYTES[name], is_primary=name == "chunk_id")
        else:
            fields.add_field(name, DataType.INT64)
    fields.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
    return fields


def create_index(client: MilvusClient, name: str, index: VectorIndex, index_name: str = VECTOR) -> None:
    params = client.prepare_index_params()
    build: dict[str, Any] = {
        # The server reads JSON's words: of Python's it never builds, and never says so.
        **{key: str(bool(value)).lower() if key in FLAGS else value for key, value in index.build.items()},
        **FIXED.get(index.type, {}),
    }
    params.add_index(VECTOR, index_type=index.type, metric_type=METRIC, index_name=index_name, params=build)
    # Nothing is in the collection: there is nothing to wait for.
    client.create_index(name, params, sync=False)


def present_index(client: MilvusClient, name: str) -> VectorIndex | None:
    """The collection's index, without search parameters."""
    if not client.list_indexes(name, VECTOR):
        return None
    found = client.describe_index(name, VECTOR)
    known = BUILD.get(found["index_type"], {})
    build = {key: whole(found[key]) for key in known if key in found}
    return VectorIndex(found["index_type"], build)


def whole(value: object) -> int:
    text = str(value).lower()
    return int(text == "true") if text in ("true", "false") else int(text)


def followed(
    present: VectorIndex, settings: Index, explicit: Collection[str], alias: str, dimension: int
) -> VectorIndex:
    """The index that is there, searched as the settings say."""
    same_type = settings.type == present.type
    differing = {
        f"index.build.{name} is {value}": present.build.get(name)
        for name, value in settings.build.items()
        if present.build.get(name) != value
    }
    if not same_type and ("index.type" in explicit or settings.build or settings.search):
        differing = {f"index.type is {settings.type}": present.type}
    for wanted, there in differing.items():
        raise ConfigurationError(
            f"{wanted}, but the collection {alias} was made with {there}. Leave it out to go on with the index that "
            "is there, or give another milvus.collection."
        )
    search = settings.search if same_type else {}
    return vector_index(Index(type=present.type, build=present.build, search=search), dimension, 0)  # pyright: ignore[reportCallIssue, reportArgumentType]
