"""The rows nearest to many queries, exactly: inner products of blocks of rows, of which only the best are kept."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

# Scores that lie no further apart count as equal: a product of two unit vectors of 384 or 1,024 float32 was found to be
# wrong by up to 1.2e-6, by the order of its sum.
TIE = 3e-6
# Rows and queries that are searched at a time: some 128 MB of scores, for a moment twice.
BLOCK_ROWS = 32_768
BLOCK_QUERIES = 1_024
# Neighbours of a block beyond the k, for a query's own row and for ties.
SPARE = 28
# Rows that tie with the last of the k and are kept: boilerplate may stand in a great part of all passages.
MOST_TIES = 1_000
# Neighbours that are kept before the worst of them are thrown out.
MOST_WAITING = 4_000_000
NEIGHBOURS_SCHEMA = "query int, neighbours array<struct<score: float, chunk_id: string>>"


class Nearest:
    """The k rows with the greatest inner products for every query, and those that tie with the last of them: as many
    as MOST_TIES. Where a query has k + MOST_TIES neighbours, there are more that tie."""

    def __init__(self, queries: np.ndarray, own: Sequence[str | None], k: int):
        """queries: float32, shape (queries, dimension). own: the key of each query's own row, which is never
        its answer."""
        self.queries = np.ascontiguousarray(queries, np.float32)
        self.k = k
        self.own = np.array(list(own), dtype=object)
        # What a row must reach to be among a query's k.
        self.floor = np.full(len(queries), -np.inf, np.float32)
        self.rows: list[tuple[Sequence[str], np.ndarray]] = []
        self.kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.waiting = 0
        # Twice what may stay, so that thinning out pays.
        self.most_waiting = max(MOST_WAITING, 2 * len(queries) * (k + MOST_TIES))

    def add(self, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Take in rows. vectors: float32, shape (len(keys), dimension)."""
        self.rows.append((keys, vectors))
        if sum(len(keys) for keys, _ in self.rows) >= BLOCK_ROWS:
            self.search_block()

    def search_block(self) -> None:
        """Search the rows that were taken in since the last block."""
        if not self.rows:
            return
        # Product and selection: 1.7 times as fast as faiss.knn, 2.5 times as NumPy (tests/bench/test_nearest.py).
        import torch

        names = np.concatenate([np.asarray(keys, dtype=object) for keys, _ in self.rows])
        vectors = torch.from_numpy(np.concatenate([vectors for _, vectors in self.rows]).astype(np.float32, copy=False))
        self.rows = []
        few = min(len(names), self.k + SPARE)
        for first in range(0, len(self.queries), BLOCK_QUERIES):
            every = torch.from_numpy(self.queries[first : first + BLOCK_QUERIES]) @ vectors.T
            best = every.topk(few, dim=1)
            scores, columns = best.values.numpy(), best.indices.numpy()
            self.keep(first + np.repeat(np.arange(len(scores)), few), scores.ravel(), names[columns.ravel()])
            if few < len(names):
                # So many tie with the last of them that some may be left out: all their scores are looked at.
                for number in np.flatnonzero(scores[:, -1] >= scores[:, self.k] - TIE):
                    row = every[number].numpy()
                    more = np.setdiff1d(np.flatnonzero(row >= scores[number, self.k] - TIE), columns[number])
                    more = more[: self.k + MOST_TIES]
                    self.keep(np.full(len(more), first + number), row[more], names[more])

    def keep(self, numbers: np.ndarray, scores: np.ndarray, names: np.ndarray) -> None:
        wanted = (scores >= self.floor[numbers] - TIE) & (names != self.own[numbers])
        self.kept.append((numbers[wanted].astype(np.int32), scores[wanted], names[wanted]))
        self.waiting += int(wanted.sum())
        if self.waiting > self.most_waiting:
            self.thin_out()

    def thin_out(self) -> None:
        """Throw out what is neither among the k nor one of the ties with the last of them; the best come first."""
        if not self.kept:
            return
        numbers, scores, names = (np.concatenate(parts) for parts in zip(*self.kept, strict=True))
        order = np.lexsort((-scores, numbers))
        numbers, scores, names = numbers[order], scores[order], names[order]
        begins = np.searchsorted(numbers, np.arange(len(self.queries)))
        ends = np.searchsorted(numbers, np.arange(len(self.queries)), side="right")
        full = np.flatnonzero(ends - begins >= self.k)
        self.floor[full] = scores[begins[full] + self.k - 1]
        places = np.arange(len(numbers)) - begins[numbers]
        keep = (scores >= self.floor[numbers] - TIE) & (places < self.k + MOST_TIES)
        self.kept = [(numbers[keep], scores[keep], names[keep])]
        self.waiting = int(keep.sum())

    def found(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Query number, scores and keys, best first, for every query that has any."""
        self.search_block()
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
