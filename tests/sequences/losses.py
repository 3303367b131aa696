"""What is taken away behind lakevec's back: from Milvus, and from the streams' checkpoints."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from lakevec.jobs.vectors import partitions
from lakevec.jobs.vectors.routes import read_routes
from pymilvus import MilvusClient

STAGES = ("ingest", "chunk", "embed")


def lose_everything(client: MilvusClient, alias: str, number: int) -> str:
    """As when its disk was lost."""
    dropped = drop_collections(client, lambda name: name.startswith(alias))
    return f"Milvus loses everything ({dropped} collections)"


def lose_routes(client: MilvusClient, alias: str, number: int) -> str:
    dropped = drop_collections(client, lambda name: name.startswith(f"{alias}_routes"))
    return f"Milvus loses its routes ({dropped} collections)"


def lose_rows_collection(client: MilvusClient, alias: str, number: int) -> str:
    dropped = drop_collections(client, lambda name: name.startswith(alias) and not name.startswith(f"{alias}_routes"))
    return f"Milvus loses all but its routes ({dropped} collections)"


def lose_partition(client: MilvusClient, alias: str, number: int) -> str:
    routes = read_routes(client, alias)
    live = [each for each in routes.live if client.has_partition(routes.collection, each.partition)] if routes else []
    if not live or not routes:
        return "Milvus has no partition to lose"
    lost = live[number % len(live)]
    partitions.retire(client, routes.collection, [lost])
    return f"Milvus loses partition {lost.partition}"


def lose_rows(client: MilvusClient, alias: str, number: int) -> str:
    routes = read_routes(client, alias)
    live = [each for each in routes.live if client.has_partition(routes.collection, each.partition)] if routes else []
    if not live or not routes:
        return "Milvus has no rows to lose"
    generation = live[number % len(live)]
    keys = sorted(partitions.keys(client, routes.collection, generation))
    lost = keys[: 1 + number % 3]
    if lost:
        client.delete(routes.collection, ids=lost, partition_name=generation.partition)
    # A load counts with bounded staleness.
    deadline = time.monotonic() + 30
    while partitions.count(client, routes.collection, generation, "Bounded") != len(keys) - len(lost):
        assert time.monotonic() < deadline, "rows that were deleted are still counted"
        time.sleep(0.1)
    return f"Milvus loses {len(lost)} of {len(keys)} rows of {generation.partition}"


MILVUS_LOSSES: dict[str, Callable[[MilvusClient, str, int], str]] = {
    "everything": lose_everything,
    "routes": lose_routes,
    "collection": lose_rows_collection,
    "partition": lose_partition,
    "rows": lose_rows,
}


def drop_collections(client: MilvusClient, is_wanted: Callable[[str], bool]) -> int:
    names = [name for name in client.list_collections() if is_wanted(name)]
    for name in names:
        for alias in client.list_aliases(name)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(name)
    return len(names)


def lose_checkpoints(lake: Path) -> str:
    shutil.rmtree(lake / "_checkpoints", ignore_errors=True)
    return "all checkpoints are lost"


def lose_checkpoint(lake: Path, stage: str) -> str:
    shutil.rmtree(lake / "_checkpoints" / stage, ignore_errors=True)
    return f"the checkpoint of {stage} is lost"


def lose_last_commit(lake: Path, stage: str) -> str:
    commits = [path for path in (lake / "_checkpoints" / stage / "commits").glob("*") if path.name.isdigit()]
    if not commits:
        return f"{stage} has no commit to lose"
    last = max(commits, key=lambda path: int(path.name))
    last.unlink()
    return f"the last commit file of {stage}'s checkpoint is lost"
