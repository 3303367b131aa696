"""Partitions `p<range>_g<generation>`: made, loaded, counted, waited for, retired."""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pymilvus import MilvusClient

from ...udfs.keys import KeySlice
from .patience import when_answering

EVERY_KEY = KeySlice()
NAME = re.compile(r"p(?P<range>.+)_g(?P<generation>\d+)")
REQUESTS_AT_ONCE = 8
POLL_SECONDS = 0.2
# Readers may name the old generation for so long: routes.KNOWN_SECONDS, and while their request lasts.
DRAIN_SECONDS = 1.5


@dataclass(frozen=True, order=True)
class Generation:
    """One generation of one time range, and the partition that holds it."""

    range: str
    generation: int

    @property
    def partition(self) -> str:
        return f"p{self.range}_g{self.generation}"


def is_lite(client: MilvusClient) -> bool:
    """Milvus Lite has no loading of partitions, and counts whole collections only."""
    return client.get_server_version().startswith("milvus_lite")


def present_generations(client: MilvusClient, collection: str) -> list[Generation]:
    found = (NAME.fullmatch(name) for name in client.list_partitions(collection))
    return sorted(Generation(match["range"], int(match["generation"])) for match in found if match)


def create(client: MilvusClient, collection: str, generations: Iterable[Generation]) -> None:
    for generation in generations:
        client.create_partition(collection, generation.partition)


def load(client: MilvusClient, collection: str, generations: Iterable[Generation]) -> None:
    """Load in one call; what is loaded already costs nothing.

    Never the whole collection: after that, every new partition would be loaded by itself.
    """
    names = [generation.partition for generation in generations]
    if is_lite(client):
        client.load_collection(collection)
    elif names:
        client.load_partitions(collection, names)


def count(client: MilvusClient, collection: str, generation: Generation, consistency: str = "Strong") -> int:
    """Rows of a loaded partition as readers see them."""
    if is_lite(client):
        return len(keys(client, collection, generation))
    return count_where(client, collection, generation.partition, "", consistency)


def count_where(
    client: MilvusClient, collection: str, partition: str, expression: str, consistency: str = "Strong"
) -> int:
    """Rows of a loaded partition that an expression names; each copy counts where a key was inserted twice."""
    found = client.query(
        collection,
        expression,
        output_fields=["count(*)"],
        partition_names=[partition],
        consistency_level=consistency,
    )
    return found[0]["count(*)"]


def keys(client: MilvusClient, collection: str, generation: Generation, within: KeySlice = EVERY_KEY) -> list[str]:
    """The chunk_ids of a loaded partition, or those of a slice."""
    bounds = [
        f'chunk_id {sign} "{bound}"' for sign, bound in ((">=", within.since), ("<", within.until)) if bound is not None
    ]

    def read() -> list[str]:
        iterator = client.query_iterator(
            collection,
            batch_size=10_000,
            filter=" and ".join(bounds),
            output_fields=["chunk_id"],
            partition_names=[generation.partition],
            consistency_level="Strong",
        )
        found: list[str] = []
        while batch := iterator.next():
            found += [row["chunk_id"] for row in batch]
        iterator.close()
        return found

    return when_answering(read)


def counts(
    client: MilvusClient, collection: str, generations: Iterable[Generation], consistency: str = "Strong"
) -> dict[Generation, int]:
    """`count` of many partitions at a time."""
    generations = list(generations)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        found = pool.map(lambda generation: count(client, collection, generation, consistency), generations)
        return dict(zip(generations, found, strict=True))


def counts_when_answering(
    client: MilvusClient, collection: str, generations: Iterable[Generation], consistency: str = "Strong"
) -> dict[Generation, int]:
    """`counts`, waiting for a server that has just loaded them."""
    generations = list(generations)
    return when_answering(lambda: counts(client, collection, generations, consistency))


def wait_for_rows(
    client: MilvusClient, collection: str, expected: Mapping[Generation, int], seconds: float
) -> dict[Generation, int]:
    """Wait until readers see as many rows as expected in every partition.

    Gives the rows of those that show another number after `seconds`. A partition that was loaded a
    moment ago shows nothing for up to seven seconds, and then everything.
    """
    deadline = time.monotonic() + seconds
    waiting = dict(expected)
    while waiting:
        found = counts_when_answering(client, collection, waiting)
        waiting = {generation: rows for generation, rows in waiting.items() if found[generation] != rows}
        if waiting and time.monotonic() > deadline:
            return {generation: found[generation] for generation in waiting}
        if waiting:
            time.sleep(POLL_SECONDS)
    return {}


def retire(client: MilvusClient, collection: str, generations: Iterable[Generation]) -> None:
    """Release and drop partitions that no route names."""
    generations = list(generations)
    if generations and not is_lite(client):
        client.release_partitions(collection, [generation.partition for generation in generations])
    for generation in generations:
        client.drop_partition(collection, generation.partition)
