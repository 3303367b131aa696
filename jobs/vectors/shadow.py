"""A collection beside the live one, with the same rows and partitions, that indexes are tried on.

Whoever makes one holds the lock `tune`: a shadow that is there before was left by a sweep that was killed.
"""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from pymilvus import DataType, MilvusClient, MilvusException

from ..errors import MilvusError
from .collection import Owner, create_index, schema
from .index import METRIC, VectorIndex
from .partitions import Generation
from .patience import retrying
from .rows import VECTOR

POLL_SECONDS = 0.5
# The least time without anything indexed after which a build counts as stalled, and how often what was expected.
STALLED_SECONDS, STALLED_TIMES = 900.0, 3
# What rows are imported under; every other index is built after it.
FIRST = VectorIndex("FLAT")


class BuildFailed(MilvusError):
    """The server could not build this index; the next may be tried."""


class BuildStalled(MilvusError):
    """The server does not come to an end with this index, and may be at it still: nothing can be measured beside it."""


def shadow_name(alias: str, owner: Owner, sweep: str) -> str:
    """Of a sweep, or of a probe. It names the lake, which may not be alone on the server with this alias."""
    return f"{alias}_{owner.lake_id[:8]}_shadow_{sweep}"


def is_shadow(name: str, alias: str, owner: Owner) -> bool:
    return re.fullmatch(re.escape(shadow_name(alias, owner, "")) + r"([0-9a-f]{8}|probe_[a-z]+)", name) is not None


def left_over(client: MilvusClient, alias: str, owner: Owner) -> list[str]:
    return [name for name in client.list_collections() if is_shadow(name, alias, owner)]


@contextmanager
def shadow(client: MilvusClient, alias: str, owner: Owner) -> Iterator[str]:
    """A new shadow's name, for as long as the block lasts; dropped at its end, however that comes."""
    name = shadow_name(alias, owner, uuid.uuid4().hex[:8])
    try:
        retrying()(make, client, name, owner)
        yield name
    finally:
        # The error that ended the block is the one to tell; the next sweep drops what is left.
        with suppress(MilvusException):
            client.drop_collection(name)


def make(client: MilvusClient, name: str, owner: Owner) -> None:
    if not client.has_collection(name):
        client.create_collection(name, schema=schema(owner.dimension), properties=owner.properties)
    if not client.list_indexes(name, VECTOR):
        create_index(client, name, FIRST)


def refusals(client: MilvusClient, alias: str, owner: Owner, indexes: Iterable[VectorIndex]) -> dict[str, str]:
    """Index types that the server does not take, with its words: asked on a collection without rows."""
    found = {}
    for index in indexes:
        # One for each: what is refused in part may stay behind.
        name = shadow_name(alias, owner, f"probe_{index.type.lower()}")
        fields = MilvusClient.create_schema(auto_id=False)
        fields.add_field("id", DataType.INT64, is_primary=True)
        fields.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=32)
        try:
            client.create_collection(name, schema=fields)
            create_index(client, name, index)
        except MilvusException as error:
            found[index.type] = error.message
        finally:
            with suppress(MilvusException):
                client.drop_collection(name)
    return found


def index_name(index: VectorIndex) -> str:
    """By which segments tell that it is this one that they carry: not the one before it, whose build a drop does not
    cancel."""
    return "_".join([VECTOR, index.type.lower(), *(f"{key}_{value}" for key, value in index.build.items())])


def change_index(client: MilvusClient, name: str, index: VectorIndex) -> None:
    """Take the index away and order another; nothing is loaded meanwhile."""
    client.release_collection(name)
    for present in client.list_indexes(name, VECTOR):
        client.drop_index(name, present)
    try:
        create_index(client, name, index, index_name(index))
    except MilvusException as error:
        # Without any index the collection could not be loaded again.
        create_index(client, name, FIRST)
        raise BuildFailed(f"the server refuses it: {error.message}") from error


def wait_until_built(
    client: MilvusClient, name: str, expected_seconds: float, advance: Callable[[int, int], None] = lambda *_: None
) -> None:
    """Return when every row is indexed. advance: told of the rows that are, and of all.

    Raises BuildFailed where the server says that it failed, and BuildStalled where it indexes nothing more for much
    longer than the whole was expected to take.
    """
    moved_at, seen = time.monotonic(), -1
    [present] = client.list_indexes(name, VECTOR)
    # A segment counts when it is done, and there may be only one.
    patience = max(STALLED_SECONDS, STALLED_TIMES * expected_seconds)
    while True:
        found = client.describe_index(name, present)
        done, total = found["indexed_rows"], found["total_rows"]
        if done == total and not found["pending_index_rows"]:
            advance(total, total)
            return
        if found["state"] == "Failed":
            raise BuildFailed(f"the server failed to build it: {found.get('index_state_fail_reason') or 'see its log'}")
        if done != seen:
            moved_at, seen = time.monotonic(), done
            advance(done, total)
        if time.monotonic() - moved_at > patience:
            raise BuildStalled(f"the server indexed nothing more for {patience:,.0f} s")
        time.sleep(POLL_SECONDS)


def search(
    client: MilvusClient,
    name: str,
    generations: Iterable[Generation],
    vectors: list,
    limit: int,
    params: dict[str, int],
) -> list[list[tuple[str, float]]]:
    """Keys and scores of the `limit` nearest rows of each vector, as the index finds them.

    Without fields and without waiting for writes: what is measured is the index.
    """
    found = client.search(
        name,
        data=vectors,
        anns_field=VECTOR,
        limit=limit,
        search_params={"metric_type": METRIC, "params": params},
        partition_names=[each.partition for each in generations],
        consistency_level="Eventually",
    )
    return [[(hit["id"], hit["distance"]) for hit in hits] for hits in found]
