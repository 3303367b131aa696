"""Recall against exact search, with its interval; and how good the answers are, by judged questions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...udfs.nearest import TIE

RESAMPLES = 10_000
# Fewer queries bound nothing, since what only some of them miss much of may not be among them. In simulations of such
# misses the bootstrap's lower end was above the truth 52 times in 100 with 10 queries, 10 times with 60, 3.5 with 185;
# it should be 2.5 times.
LEAST_DECIDING = 50
# Of documents, as people see them: a document counts once, by its best passage.
DEPTH = 10


@dataclass(frozen=True)
class Neighbours:
    """A query's exact answers, best first: its k nearest and those that tie with the last of them."""

    keys: Sequence[str]
    scores: Sequence[float]

    def split(self, k: int) -> tuple[set[str], set[str]]:
        """Keys of the rows that are nearer than the k-th, and of those that tie with it."""
        last = self.scores[k - 1]
        rows = list(zip(self.keys, self.scores, strict=True))
        nearer = {key for key, score in rows if score > last + TIE}
        return nearer, {key for key, score in rows if score >= last - TIE} - nearer


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% bootstrap interval; where all values are the same, with a rule of three (interval).

    few: of fewer values than LEAST_DECIDING, so that low and high bound nothing."""

    mean: float
    low: float
    high: float
    few: bool = False


def recalls(found: Sequence[Sequence[str]], truth: Sequence[Neighbours], k: int) -> np.ndarray:
    """recall@k of each query: of its k nearest rows, or of all where there are fewer, the share that was found among
    the first k."""
    return np.array([recall(set(keys[:k]), nearest, k) for keys, nearest in zip(found, truth, strict=True)])


def recall(found: set[str], nearest: Neighbours, k: int) -> float:
    """Each row that is nearer than the k-th is needed; the places that these leave may be filled by any that tie
    with it."""
    k = min(k, len(nearest.keys))
    if not k:
        return 0.0
    nearer, tied = nearest.split(k)
    return (len(found & nearer) + min(len(found & tied), k - len(nearer))) / k


def interval(values: np.ndarray, seed: int, step: float = 1.0) -> Interval:
    """The mean over queries and, from resampled queries, between what 95 of 100 such means lie.

    values: few different ones, as recalls are: how often each comes is drawn, which is the same as
    drawing queries one by one. Where all are the same, resampling knows of no other: but of n queries of which none
    differs, up to 1 - 0.025^(1/n) of all may (3.7/n for many), each by `step`, the least that a value can.
    """
    few = len(values) < LEAST_DECIDING
    if values.min() == values.max():
        mean, unseen = float(values[0]), step * (1 - 0.025 ** (1 / len(values)))
        return Interval(mean, max(0.0, mean - unseen), min(1.0, mean + unseen), few)
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), RESAMPLES)
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, [0.025, 0.975])
    # Sums in another order may differ in the last digit.
    mean = float(values.mean())
    return Interval(mean, min(mean, float(low)), max(mean, float(high)), few)


def ranked_documents(chunk_ids: Iterable[str], document_of: Mapping[str, str]) -> list[str]:
    """Documents in the order of their best passages."""
    return list(dict.fromkeys(document_of[key] for key in chunk_ids if key in document_of))[:DEPTH]


def answer_quality(
    ranked: Mapping[str, Sequence[str]], judged: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """nDCG@10, MRR@10 and hit@10 of each judged question, by trec_eval (linear gains), as ir-measures asks it.

    ranked: question -> documents, best first. judged: question -> document -> grade, 1 and more being relevant.
    """
    from ir_measures import RR, Success, iter_calc, nDCG

    names = {nDCG @ DEPTH: "ndcg_at_10", RR @ DEPTH: "mrr_at_10", Success @ DEPTH: "hit_at_10"}
    run = {
        question: {document: float(len(documents) - place) for place, document in enumerate(documents)}
        for question, documents in ranked.items()
        if question in judged
    }
    found = {question: dict.fromkeys(names.values(), 0.0) for question in judged}
    for metric in iter_calc(list(names), {key: dict(value) for key, value in judged.items()}, run):
        found[metric.query_id][names[metric.measure]] = float(metric.value)
    return found


def averages(by_question: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    rows = list(by_question.values())
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}
