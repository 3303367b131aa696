"""The rows nearest to many queries, exactly: inner products of blocks, of which only the best are kept."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

# Scores that lie no further apart count as equal: sums of float32 in another order differ by as much.
TIE = 1e-6
# Numbers of one block of scores: 64 MB.
BLOCK_NUMBERS = 1 << 24
# Survivors that are kept before the worst of them are thrown out.
MOST_WAITING = 4_000_000
NEIGHBOURS_SCHEMA = "query int, neighbours array<struct<score: float, chunk_id: string>>"


class Nearest:
    """The k rows with the greatest inner products for every query, and those that tie with the last of them."""

    def __init__(self, queries: np.ndarray, own: Sequence[str | None], k: int):
        """queries: float32, shape (queries, dimension). own: the key of each query's own row, which is never
        its answer."""
        self.queries = np.ascontiguousarray(queries, np.float32)
        self.k = k
        self.own = {}
        for number, key in enumerate(own):
            self.own.setdefault(key, []).append(number)
        self.own.pop(None, None)
        # What a row must reach to be among a query's k.
        self.floor = np.full(len(queries), -np.inf, np.float32)
        self.kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.waiting = 0

    def add(self, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Take in rows. vectors: float32, shape (len(keys), dimension)."""
        names = np.asarray(keys, dtype=object)
        rows = max(1, BLOCK_NUMBERS // max(1, len(self.queries)))
        for first in range(0, len(names), rows):
            self.add_block(names[first : first + rows], vectors[first : first + rows])

    def add_block(self, names: np.ndarray, vectors: np.ndarray) -> None:
        scores = self.queries @ vectors.T
        for column, name in enumerate(names):
            for number in self.own.get(name, ()):
                scores[number, column] = -np.inf
        if len(names) > self.k:
            unknown = np.flatnonzero(np.isneginf(self.floor))
            if len(unknown):
                self.floor[unknown] = np.partition(scores[unknown], -self.k, axis=1)[:, -self.k]
        numbers, columns = np.nonzero((scores >= self.floor[:, None] - TIE) & ~np.isneginf(scores))
        self.kept.append((numbers.astype(np.int32), scores[numbers, columns], names[columns]))
        self.waiting += len(numbers)
        if self.waiting > MOST_WAITING:
            self.thin_out()

    def thin_out(self) -> None:
        """Throw out what is not among the k, nor ties with the last of them; the best come first."""
        if not self.kept:
            return
        numbers, scores, names = (np.concatenate(parts) for parts in zip(*self.kept, strict=True))
        order = np.lexsort((-scores, numbers))
        numbers, scores, names = numbers[order], scores[order], names[order]
        begins = np.searchsorted(numbers, np.arange(len(self.queries)))
        ends = np.searchsorted(numbers, np.arange(len(self.queries)), side="right")
        full = np.flatnonzero(ends - begins >= self.k)
        self.floor[full] = scores[begins[full] + self.k - 1]
        keep = scores >= self.floor[numbers] - TIE
        self.kept = [(numbers[keep], scores[keep], names[keep])]
        self.waiting = int(keep.sum())

    def found(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Query number, scores and keys, best first, for every query that has any."""
        self.thin_out()
        if not self.kept:
            return
        numbers, scores, names = self.kept[0]
        for number in np.unique(numbers):
            begin, end = np.searchsorted(numbers, [number, number + 1])
            yield int(number), scores[begin:end], names[begin:end]


def nearest_in_task(
    queries: np.ndarray, own: Sequence[str | None], k: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """A row of NEIGHBOURS_SCHEMA for each query, from a Spark task's rows (mapInArrow): chunk_id, vector."""
    nearest = Nearest(queries, own, k)
    for batch in batches:
        if len(batch):
            vectors = np.asarray(batch.column("vector").flatten(), np.float32).reshape(len(batch), -1)
            nearest.add(batch.column("chunk_id").to_pylist(), vectors)
    rows = [
        (number, [{"score": float(score), "chunk_id": key} for score, key in zip(scores, keys, strict=True)])
        for number, scores, keys in nearest.found()
    ]
    kind = pa.list_(pa.struct([("score", pa.float32()), ("chunk_id", pa.string())]))
    yield pa.RecordBatch.from_arrays(
        [pa.array([row[0] for row in rows], pa.int32()), pa.array([row[1] for row in rows], kind)],
        ["query", "neighbours"],
    )
