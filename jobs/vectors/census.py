"""The keys that Milvus holds, asked of the store itself: by slices of keys, so that no place ever holds them all.

`count(*)` counts every copy of a key that was inserted twice; queries and iterators give such a key
once, and may leave out another key in its place. So where a slice counts more rows than it gives keys,
ever smaller parts of it are asked. (Milvus Lite gives and counts such a key once.)
"""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import grpc
import pyarrow as pa
from pymilvus import MilvusClient, MilvusException
from pymilvus.client.types import LoadState

from ...udfs.keys import key_slices
from .connection import MilvusAddress, cause_in_words, connect
from .partitions import NAME, Generation, count_where, is_lite
from .patience import retrying

# Milvus's own partition, which lakevec never writes to.
DEFAULT = "_default"
STRAY = "partition "
KEYS_PER_SLICE = 50_000
SLICES_AT_ONCE = 8
# Where more than this share of more than a few keys is doubled, they all are suspect.
MUCH_DOUBLED, FEW_KEYS = 0.25, 1_000
POLL_SECONDS, LOADED_SECONDS = 0.5, 10.0

SLICE_SCHEMA = "range string, partition string, lower string, upper string, rows bigint"
CENSUS_SCHEMA = "range string, chunk_id string, surplus bigint, problem string"


@dataclass(frozen=True)
class Slice:
    """The keys of one partition from `lower` on and below `upper`; None: without bound.

    rows: what count(*) gave for it; None where it was not asked yet.
    """

    range: str
    partition: str
    lower: str | None = None
    upper: str | None = None
    rows: int | None = None

    @property
    def expression(self) -> str:
        """Its keys in Milvus's words."""
        lower = f'chunk_id >= "{self.lower or ""}"'
        return f'{lower} && chunk_id < "{self.upper}"' if self.upper else lower


def slices_of(name: str, partition: str, rows: int) -> list[Slice]:
    """The slices of a partition that counts so many rows, about KEYS_PER_SLICE in each; together they are all of it."""
    pieces = key_slices(-(-rows // KEYS_PER_SLICE))
    # A part of a range has a count of its own, which nobody asked yet.
    known = rows if len(pieces) == 1 else None
    return [Slice(name, partition, piece.since, piece.until, known) for piece in pieces]


def readable(client: MilvusClient, collection: str, generations: Iterable[Generation]) -> list[Generation]:
    """Those that are there and loaded, or on their way: the others fail every reader that names them."""
    there = set(client.list_partitions(collection))
    if is_lite(client):
        return [each for each in generations if each.partition in there]
    return [each for each in generations if each.partition in there and is_loaded(client, collection, each.partition)]


def is_loaded(client: MilvusClient, collection: str, partition: str) -> bool:
    return client.get_load_state(collection, partition)["state"] != LoadState.NotLoad


def stray_rows(client: MilvusClient, collection: str) -> dict[str, int]:
    """Rows that readers of the alias may meet in partitions that are no generation of a range, by partition."""
    names = [name for name in client.list_partitions(collection) if not NAME.fullmatch(name) and name != DEFAULT]
    if is_lite(client):
        found = {name: len(keys_where(client, collection, name, Slice(name, name).expression)) for name in names}
    else:
        loaded = [name for name in names if is_loaded(client, collection, name)]
        found = {name: count_where(client, collection, name, "") for name in loaded}
    found[DEFAULT] = default_rows(client, collection)
    return {stray(name): rows for name, rows in found.items() if rows}


def stray(partition: str) -> str:
    """What stands for such a partition where time ranges stand, none of which is called so."""
    return partition if partition == DEFAULT else f"{STRAY}{partition}"


def default_rows(client: MilvusClient, collection: str) -> int:
    """Rows of `_default`. It is loaded for the question, and stays so: nobody reads it."""
    if is_lite(client):
        return len(keys_where(client, collection, DEFAULT, Slice(DEFAULT, DEFAULT).expression))
    if not is_loaded(client, collection, DEFAULT):
        client.load_partitions(collection, [DEFAULT])
        # What was just loaded shows nothing for some seconds, and then everything.
        deadline = time.monotonic() + LOADED_SECONDS
        flushed = int(client.get_partition_stats(collection, DEFAULT)["row_count"])
        while flushed and not count_where(client, collection, DEFAULT, "") and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    return count_where(client, collection, DEFAULT, "")


def census_in_task(
    address: MilvusAddress, collection: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """The keys of a Spark task's slices (mapInArrow): rows of SLICE_SCHEMA in, of CENSUS_SCHEMA out.

    surplus: rows beyond the first of this key. What fails is an outcome too: its `problem`.
    """
    client = retrying()(connect, address)
    for batch in batches:
        yield from census(client, collection, [Slice(**row) for row in batch.to_pylist()])


def census(client: MilvusClient, collection: str, slices: Sequence[Slice]) -> Iterator[pa.RecordBatch]:
    """Rows of CENSUS_SCHEMA, a batch for each slice; some slices at a time."""
    with ThreadPoolExecutor(SLICES_AT_ONCE) as pool:
        for first in range(0, len(slices), SLICES_AT_ONCE):
            yield from pool.map(partial(census_of, client, collection), slices[first : first + SLICES_AT_ONCE])


def census_of(client: MilvusClient, collection: str, piece: Slice) -> pa.RecordBatch:
    try:
        found = surplus_by_key(client, collection, piece)
    except (MilvusException, grpc.RpcError) as error:
        return census_batch(piece.range, {}, f"{piece.partition}: {cause_in_words(error)}")
    return census_batch(piece.range, found, None)


def census_batch(name: str, surplus: Mapping[str, int], problem: str | None) -> pa.RecordBatch:
    number = 1 if problem else len(surplus)
    columns = [
        pa.array([name] * number, pa.string()),
        pa.array([None] if problem else list(surplus), pa.string()),
        pa.array([0] if problem else list(surplus.values()), pa.int64()),
        pa.array([problem] * number, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, ["range", "chunk_id", "surplus", "problem"])


def surplus_by_key(client: MilvusClient, collection: str, piece: Slice) -> dict[str, int]:
    """Each key of a slice, and how many rows stand there beyond its first.

    Where very many are doubled, -1 marks those that may be too, and keys left out may be missing.
    """
    keys = keys_where(client, collection, piece.partition, piece.expression)
    rows = piece.rows
    if rows != len(keys) and not is_lite(client):
        rows = count_where(client, collection, piece.partition, piece.expression)
    return by_parts(client, collection, piece, keys, rows or 0)


def by_parts(client: MilvusClient, collection: str, piece: Slice, keys: Sequence[str], rows: int) -> dict[str, int]:
    """`surplus_by_key` of a slice that gives these sorted keys and counts so many rows.

    What is asked here need not wait for the newest write, which the count before has waited for.
    """
    found: dict[str, int] = {}
    parts = [(piece.expression, keys, rows)]
    while parts:
        expression, keys, rows = parts.pop()
        surplus = rows - len(keys)
        if surplus <= 0 or not keys:
            found |= dict.fromkeys(keys, 0)
            continue
        if len(keys) > FEW_KEYS and surplus > MUCH_DOUBLED * len(keys):
            found |= suspected(keys, surplus)
            continue
        middle = len(keys) // 2
        # A foreign key may hold anything.
        key = json.dumps(keys[middle], ensure_ascii=False)
        found[keys[middle]] = count_where(client, collection, piece.partition, f"chunk_id == {key}", "Bounded") - 1
        for side, known in (("<", keys[:middle]), (">", keys[middle + 1 :])):
            part = f"{expression} && chunk_id {side} {key}"
            rows = count_where(client, collection, piece.partition, part, "Bounded")
            if rows != len(known):
                known = keys_where(client, collection, piece.partition, part, "Bounded")
            parts.append((part, known, rows))
    return found


def keys_where(
    client: MilvusClient, collection: str, partition: str, expression: str, consistency: str = "Strong"
) -> list[str]:
    """The keys that an expression names, sorted, each once.

    No iterator: it cannot go on behind a foreign key with quotes in it.
    """
    found = client.query(
        collection,
        expression,
        output_fields=["chunk_id"],
        partition_names=[partition],
        consistency_level=consistency,
    )
    return sorted({row["chunk_id"] for row in found})


def suspected(keys: Sequence[str], surplus: int) -> dict[str, int]:
    """All of these keys, with the whole surplus at the first."""
    return dict.fromkeys(keys, -1) | {keys[0]: surplus}
