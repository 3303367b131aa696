"""Another collection that is to take the place of the live one, with another index."""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false

import re
import time
from collections.abc import Iterable

from pymilvus import MilvusClient

from .collection import Owner, aliased, create_index
from .collection import schema as collection_schema
from .index import VectorIndex
from .partitions import DRAIN_SECONDS
from .patience import retrying
from .routes import Routes, from_json, publish, published, read_routes, routes_alias
from .rows import VECTOR


def make_successor(client: MilvusClient, alias: str, live: str, owner: Owner, index: VectorIndex) -> str:
    """An empty collection with this index, under the next name. Gives the name."""
    base = owner.collection_name(alias)
    taken = [number(base, name) for name in client.list_collections()]
    name = f"{base}_{max([number(base, live), *taken]) + 1}"

    def make() -> None:
        if not client.has_collection(name):
            client.create_collection(name, schema=collection_schema(owner.dimension), properties=owner.properties)
        if not client.list_indexes(name, VECTOR):
            create_index(client, name, index)

    retrying()(make)
    return name


def number(base: str, name: str) -> int:
    """1 for the first collection of an owner, n for its successor `<base>_n`, 0 for all others."""
    if name == base:
        return 1
    match = re.fullmatch(re.escape(base) + r"_(\d+)", name)
    return int(match[1]) if match else 0


def unrouted(client: MilvusClient, alias: str, owner: Owner, names: Iterable[str]) -> list[str]:
    """What an interrupted switch left, of these collections (or their folders): the owner's that neither routes nor
    alias name."""
    base, routes = owner.collection_name(alias), read_routes(client, alias)
    if routes is None:
        return []
    live = routes.collection, aliased(client, alias)
    return [name for name in names if number(base, name) and name not in live]


def drop_unrouted(client: MilvusClient, alias: str, owner: Owner) -> None:
    """The caller holds the lock `tune`: no switch goes on."""
    for name in unrouted(client, alias, owner, client.list_collections()):
        client.drop_collection(name)


def proved_routes(client: MilvusClient, alias: str, lake_id: str) -> Routes | None:
    """The routes; where a switch to another collection was killed before its proof, those before it, live again.

    The alias follows the routes after the proof alone. The caller holds the lock `load`: no switch goes on.
    """
    routes, proved = read_routes(client, alias), aliased(client, alias)
    if routes is None or routes.lake_id != lake_id or proved in (None, routes.collection):
        return routes
    before = routes_before(client, alias)
    if before is None or before.collection != proved:
        return routes
    publish(client, alias, before)
    time.sleep(DRAIN_SECONDS)
    client.drop_collection(routes.collection)
    return before


def routes_before(client: MilvusClient, alias: str) -> Routes | None:
    """The routes that were live until the last switch; None where they are not kept."""
    names = [f"{routes_alias(alias)}_{number}" for number in published(client, alias)]
    live = aliased(client, routes_alias(alias))
    place = names.index(live) if live in names else 0
    return from_json(client.describe_collection(names[place - 1])["description"]) if place else None
