"""The routes: which generation of which time range is live, and how it is searched. Readers need only these.

They are the description of a tiny, empty collection `<alias>_routes_<n>`, fixed at its creation;
the Milvus alias `<alias>_routes` names the newest. So a switch is one atomic `alter_alias`, and
what a reader reads is whole. Milvus Lite keeps no descriptions: there it is a property.
"""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pymilvus import DataType, MilvusClient

from ..errors import MilvusError
from .collection import aliased, point_alias
from .index import VectorIndex
from .partitions import Generation, is_lite
from .patience import retrying

FORMAT = 2
PROPERTY = "lakevec.routes"
# The one before is kept for readers that have just read the alias.
KEPT = 2
# Readers go by routes that they read so long ago: to ask for them costs as much as half a search.
KNOWN_SECONDS = 0.5
ROUTES_NAME = re.compile(r"_routes_\d+$")


@dataclass(frozen=True)
class Routes:
    """What is live. `version` is the version of `embeddings` that Milvus wholly holds; -1: none.

    commit: of that version, which tells whether the lake still has the past that it had (None: not known).
    rows: of each time range in that version, so that the next load need not count the table.
    """

    collection: str
    lake_id: str
    model_id: str
    model_name: str
    index: VectorIndex
    version: int = -1
    commit: str | None = None
    generations: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] | None = None

    @property
    def live(self) -> list[Generation]:
        return [Generation(name, generation) for name, generation in sorted(self.generations.items())]

    def partition(self, range_name: str) -> str:
        return Generation(range_name, self.generations[range_name]).partition

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Routes:
    values = json.loads(text)
    if values.pop("format") > FORMAT:
        raise MilvusError(
            "The routes of this index were written by a newer lakevec, and this one does not know what they say. "
            "Install the newer version here too."
        )
    return Routes(**{**values, "index": VectorIndex(**values["index"])})


def read_routes(client: MilvusClient, alias: str) -> Routes | None:
    """The routes behind an alias; None where nothing was ever published."""
    return None if aliased(client, routes_alias(alias)) is None else routes_behind(client, alias)


def routes_behind(client: MilvusClient, alias: str) -> Routes:
    """The routes behind an alias that is known to be there. Raises MilvusException where it is not."""
    found = client.describe_collection(routes_alias(alias))
    return from_json(found["description"] or found["properties"][PROPERTY])


def publish(client: MilvusClient, alias: str, routes: Routes) -> None:
    """Make these the routes, in one step that readers cannot see half of."""
    # Begun anew as a whole, under the next number: what a first try made is tidied up by a later one.
    retrying()(publish_next, client, alias, routes)


def publish_next(client: MilvusClient, alias: str, routes: Routes) -> None:
    lite = is_lite(client)
    numbers = published(client, alias)
    name = f"{routes_alias(alias)}_{max(numbers, default=0) + 1}"
    text = routes.to_json()
    schema = MilvusClient.create_schema(auto_id=False, description="" if lite else text)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(name, schema=schema, properties={PROPERTY: text} if lite else {})
    point_alias(client, routes_alias(alias), name)
    for number in numbers[: 1 - KEPT]:
        client.drop_collection(f"{routes_alias(alias)}_{number}")


def published(client: MilvusClient, alias: str) -> list[int]:
    """Numbers of the routes' collections that are there, oldest first."""
    pattern = re.compile(re.escape(routes_alias(alias)) + r"_(\d+)")
    found = (pattern.fullmatch(name) for name in client.list_collections())
    return sorted(int(match[1]) for match in found if match)


def routes_alias(alias: str) -> str:
    return f"{alias}_routes"
