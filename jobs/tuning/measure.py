"""One search setting, really measured: what is found, how quickly, how many at a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ...udfs.nearest import MOST_TIES, TIE
from ..errors import ConfigurationError
from ..vectors.index import widened
from .grid import K, Setting
from .measures import LEAST_DECIDING as LEAST_DECIDING
from .measures import Interval, Neighbours, interval, recalls
from .query_sets import QuerySet
from .truth import DEEPEST

CLIENTS = 8
# Of the searches by all clients: the median of so many rates counts, so that a moment's load does not.
ROUNDS = 3
WARM_UP = 50
# A quantile at 99 of 100 wants some hundred searches, whatever the number of queries.
LEAST_TIMED = 300
BATCH = 50
DEPTHS = (1, 10, 100)

# Types that score rows by codes instead of the vectors themselves.
CODED = ("IVF_SQ8", "IVF_PQ", "GPU_IVF_PQ", "HNSW_SQ", "IVF_RABITQ")

Found = list[list[tuple[str, float]]]
# Vectors, hits of each, search parameters -> keys and scores, best first.
Search = Callable[[list, int, dict[str, int]], Found]


@dataclass(frozen=True)
class Answers:
    """A query set's answers.

    ids: of its K hits, with the setting's own parameters. recall: by depth, of each query, without depths that take
    other parameters (HNSW's ef is at least the number of hits); intervals: the same as means. exact_share: how many
    hits have the score that exact search gives them.
    """

    ids: list[list[str]]
    recall: Mapping[int, np.ndarray]
    intervals: Mapping[int, Interval]
    exact_share: float


@dataclass(frozen=True)
class Measurement:
    """answers: by query set. milliseconds: of each timed search for K hits, by one client. qps: searches a
    second by number of clients; spread: the lowest and highest rate of all clients."""

    answers: Mapping[str, Answers]
    milliseconds: np.ndarray
    qps: Mapping[int, float]
    spread: tuple[float, float]
    wrong: str | None = None

    @property
    def deciding(self) -> Interval:
        """recall@10 of the query set that it is worse for: a promise is kept for all. What few queries give is told,
        and decides nothing where there is a larger set."""
        found = [each.intervals[K] for each in self.answers.values()]
        many = [each for each in found if not each.few]
        return min(many or found, key=lambda each: (each.low, each.mean))

    @property
    def p99_ms(self) -> float:
        return self.quantile(99)

    def quantile(self, percent: float) -> float:
        return float(np.percentile(self.milliseconds, percent))


@dataclass(frozen=True)
class Judged:
    """A query set with its exact answers."""

    queries: QuerySet
    truth: Sequence[Neighbours] = field(repr=False)


def answerable(queries: QuerySet, truth: Sequence[Neighbours]) -> Judged:
    """The queries whose answers are known, with these: more rows than are kept tie with the last of some.

    Raises ConfigurationError where none is left.
    """
    kept = [number for number, each in enumerate(truth) if len(each.keys) < DEEPEST + MOST_TIES]
    if not kept:
        raise ConfigurationError(
            f"More than {MOST_TIES:,} passages are equally near to each query of the set {queries.name}: no recall can "
            "be measured. Give --questions that the lake can answer, or chunk without what stands in every document."
        )
    return Judged(queries.only(kept), [truth[number] for number in kept])


def measure(search: Search, setting: Setting, sets: Sequence[Judged], seed: int, bare_share: float) -> Measurement:
    """Search all query sets and time the first. bare_share: of the rows, in segments too small for an index."""
    first = sets[0]
    shallow = timed(search, setting, first.queries)
    answers = {}
    for judged in sets:
        near = shallow.found if judged is first else batched(search, setting, judged.queries, K)
        # With other parameters it would be another setting.
        is_deep = widened(dict(setting.search), DEEPEST) == dict(setting.search)
        deep = batched(search, setting, judged.queries, DEEPEST) if is_deep else None
        answers[judged.queries.name] = answered(near, deep, judged, seed)
    wrong = flattered(setting, answers[first.queries.name].exact_share, bare_share)
    return Measurement(answers, shallow.milliseconds, shallow.qps, shallow.spread, wrong)


@dataclass(frozen=True)
class Timed:
    found: Found
    milliseconds: np.ndarray
    qps: Mapping[int, float]
    spread: tuple[float, float]


def timed(search: Search, setting: Setting, queries: QuerySet) -> Timed:
    """Every query alone for K hits: by one client, one after the other, and by CLIENTS at a time."""
    limits = [K + (own is not None) for own in queries.own]
    vectors = [[vector.tolist()] for vector in queries.vectors]

    def one(number: int) -> list[tuple[str, float]]:
        return search(vectors[number], limits[number], widened(dict(setting.search), limits[number]))[0]

    turns = [number % len(queries) for number in range(max(LEAST_TIMED, len(queries)))]
    for number in turns[:WARM_UP]:
        one(number)
    found: Found = [[] for _ in range(len(queries))]
    milliseconds = []
    for number in turns:
        begun = time.perf_counter()
        hits = one(number)
        milliseconds.append(1000 * (time.perf_counter() - begun))
        found[number] = hits
    with ThreadPoolExecutor(CLIENTS) as pool:
        rates = [rate(pool, one, turns[begin::ROUNDS]) for begin in range(ROUNDS)]
    alone = 1000 * len(turns) / sum(milliseconds)
    return Timed(found, np.array(milliseconds), {1: alone, CLIENTS: float(np.median(rates))}, (min(rates), max(rates)))


def rate(pool: ThreadPoolExecutor, one: Callable[[int], object], turns: Sequence[int]) -> float:
    """Searches a second of all clients together."""
    begun = time.perf_counter()
    for _ in pool.map(one, turns):
        pass
    return len(turns) / (time.perf_counter() - begun)


def batched(search: Search, setting: Setting, queries: QuerySet, k: int) -> Found:
    """k hits of every query, many queries to a request."""
    limit = k + any(own is not None for own in queries.own)
    params = widened(dict(setting.search), limit)
    found: Found = []
    for begin in range(0, len(queries), BATCH):
        found += search(queries.vectors[begin : begin + BATCH].tolist(), limit, params)
    return found


def answered(near: Found, deep: Found | None, judged: Judged, seed: int) -> Answers:
    """near: K hits of each query. deep: DEEPEST; None where this setting does not give so many."""
    queries, truth = judged.queries, judged.truth
    near_ids = without_own(near, queries.own)
    recall = {depth: recalls(near_ids, truth, depth) for depth in DEPTHS if depth <= K}
    if deep is not None:
        deep_ids = without_own(deep, queries.own)
        recall |= {depth: recalls(deep_ids, truth, depth) for depth in DEPTHS if depth > K}
    return Answers(
        near_ids,
        recall,
        {depth: interval(values, seed, 1 / depth) for depth, values in recall.items()},
        exact_share(near, truth),
    )


def without_own(found: Found, own: Sequence[str | None]) -> list[list[str]]:
    return [[key for key, _ in hits if key != mine] for hits, mine in zip(found, own, strict=True)]


def exact_share(found: Found, truth: Sequence[Neighbours]) -> float:
    """Of the hits that exact search has too, the share with its score; 0 where there is none."""
    compared = equal = 0
    for hits, nearest in zip(found, truth, strict=True):
        scores = dict(zip(nearest.keys, nearest.scores, strict=True))
        both = [abs(score - scores[key]) for key, score in hits if key in scores]
        compared += len(both)
        equal += sum(difference <= TIE for difference in both)
    return equal / compared if compared else 0.0


def is_coded(setting: Setting) -> bool:
    if setting.type == "SCANN":
        return setting.build.get("with_raw_data") == 0
    return setting.type in CODED and not setting.build.get("refine")


def flattered(setting: Setting, share: float, bare_share: float) -> str | None:
    """Why a measurement is no measurement of a quantised index: its scores are those of the vectors themselves.

    Rows in segments without an index have such scores rightly; half of the others are too many.
    """
    if is_coded(setting) and share > bare_share + (1 - bare_share) / 2:
        return (
            f"{share:.0%} of its scores are exact, which codes cannot give: the server searched the vectors themselves"
        )
    return None
