"""What is tried: index types, each with its ways to be built (outer loop) and to be searched (inner loop).

A build serves all its searches. Impossible combinations are taken out here, before anything is built,
each with its reason.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import ConfigurationError
from ..vectors.index import AT_LEAST_K, BUILD, SEARCH, largest_divisor
from ..vectors.segments import LEAST_INDEXED_ROWS

Axes = Mapping[str, Sequence[int]]

# One hit more than is counted: a passage that is its own query is left out.
K = 10
LIMIT = K + 1
# Training needs so many vectors for each list; with fewer, Milvus makes fewer lists and says nothing.
VECTORS_PER_LIST = 39
# Above so many rows, lists are 4,096 and IVF_PQ is tried with finer codes: its quantiser, not nprobe, bounds it.
MANY_ROWS = 10_000_000

# The first server that has a type, and what else it needs. A server of the right version is asked.
SINCE = {"SCANN": (2, 3), "GPU_CAGRA": (2, 4), "HNSW_SQ": (2, 5), "IVF_RABITQ": (2, 6)}
ORDER = tuple(BUILD)


@dataclass(frozen=True)
class Setting:
    """An index type with its build parameters; and with search parameters, where it is about a search."""

    type: str
    build: Mapping[str, int] = field(default_factory=dict)
    search: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        given = [f"{key}={value}" for key, value in {**self.build, **self.search}.items()]
        return " ".join([self.type, *given])


@dataclass(frozen=True)
class Skipped:
    """What was not tried, or does not count, and why."""

    index_type: str
    build: Mapping[str, int]
    search: Mapping[str, int]
    reason: str


@dataclass(frozen=True)
class Ground:
    """What an index is built on. rows: of the largest segment that gets one; total: all rows of the
    collection. has_gpu: whether the server was built for GPUs. lacking: index types that it refused, with its words."""

    dimension: int
    rows: int
    total: int
    server: tuple[int, int, int]
    has_gpu: bool = False
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Builds with their searches, in the order in which they are tried; and what is left out."""

    searches: Mapping[str, list[Setting]]
    builds: list[Setting]
    skipped: list[Skipped]

    def searches_of(self, build: Setting) -> list[Setting]:
        return self.searches[build.name]


def grid(given: Mapping[str, Axes], ground: Ground) -> Grid:
    """The combinations that can be tried.

    given: tune.grid: index types with values of their axes; an axis that is left out has its default.
    Empty: all types. Raises ConfigurationError for a type or a parameter that there is none of.
    """
    check(given)
    builds: list[Setting] = []
    searches: dict[str, list[Setting]] = {}
    skipped: list[Skipped] = []
    for kind in given or ORDER:
        if reason := absent(kind, ground):
            skipped.append(Skipped(kind, {}, {}, reason))
            continue
        axes = given.get(kind, {})
        for build in combinations({**default_build_axes(kind, ground), **only(axes, BUILD[kind])}):
            if reason := impossible_build(kind, build, ground):
                skipped.append(Skipped(kind, build, {}, reason))
                continue
            possible = []
            for search in combinations({**default_search_axes(kind, build), **only(axes, SEARCH[kind])}):
                if reason := impossible_search(build, search):
                    skipped.append(Skipped(kind, build, search, reason))
                else:
                    possible.append(Setting(kind, build, search))
            if possible:
                builds.append(Setting(kind, build))
                searches[builds[-1].name] = possible
    return Grid(searches, builds, skipped)


def check(given: Mapping[str, Axes]) -> None:
    for kind, axes in given.items():
        if kind not in BUILD:
            raise ConfigurationError(f"tune.grid: there is no index type {kind}. Known: {', '.join(ORDER)}.")
        known = {**BUILD[kind], **SEARCH[kind]}
        for name, values in axes.items():
            if name not in known:
                takes = f"It takes {', '.join(known)}." if known else "It takes none."
                raise ConfigurationError(f"tune.grid.{kind}.{name}: {kind} has no such parameter. {takes}")
            if not values:
                raise ConfigurationError(
                    f"tune.grid.{kind}.{name} has no values. Leave it out for the default ones, or leave {kind} out."
                )
            least, most = known[name]
            for value in values:
                if not least <= value <= most:
                    raise ConfigurationError(
                        f"tune.grid.{kind}.{name} has {value}; {kind} takes {least:,} to {most:,}."
                    )


def only(axes: Axes, known: Mapping[str, object]) -> Axes:
    return {name: values for name, values in axes.items() if name in known}


def combinations(axes: Axes) -> Iterator[dict[str, int]]:
    # What is given twice is tried once.
    for values in itertools.product(*map(dict.fromkeys, axes.values())):
        yield dict(zip(axes, values, strict=True))


def absent(kind: str, ground: Ground) -> str | None:
    """Why this server has no such index, or no use for it here."""
    version = "v" + ".".join(map(str, ground.server))
    if kind in SINCE and ground.server[:2] < SINCE[kind]:
        return f"the server is {version}; {kind} comes with v{'.'.join(map(str, SINCE[kind]))}"
    if kind.startswith("GPU_") and not ground.has_gpu:
        # It would take the order, and never build.
        return f"the server ({version}) is built without GPUs: its version does not end in -gpu"
    if kind in ground.lacking:
        return f"the server ({version}) refuses it: {ground.lacking[kind]}"
    if kind != "FLAT" and ground.rows < LEAST_INDEXED_ROWS:
        return (
            f"Milvus builds no index for segments of fewer than {LEAST_INDEXED_ROWS:,} rows, and the largest has "
            f"{ground.rows:,}: they are searched exactly"
        )
    return None


def impossible_build(kind: str, build: Mapping[str, int], ground: Ground) -> str | None:
    most = ground.rows // VECTORS_PER_LIST
    if build.get("nlist", 1) > max(1, most):
        return (
            f"nlist {build['nlist']:,} is more than {most:,}: the largest segment has {ground.rows:,} rows, and each "
            f"list is trained on {VECTORS_PER_LIST}; Milvus would make fewer lists in silence"
        )
    if "m" in build and ground.dimension % build["m"]:
        return f"m {build['m']} does not divide the {ground.dimension} dimensions"
    if "nbits" in build and ground.rows < 1 << build["nbits"]:
        return (
            f"nbits {build['nbits']} means {1 << build['nbits']:,} codes, and the largest segment has only "
            f"{ground.rows:,} rows to train them on"
        )
    if kind == "SCANN" and ground.dimension % 2:
        return f"SCANN needs an even number of dimensions; there are {ground.dimension}"
    if build.get("graph_degree", 0) > build.get("intermediate_graph_degree", math.inf):
        return (
            f"graph_degree {build['graph_degree']} is more than intermediate_graph_degree "
            f"{build['intermediate_graph_degree']}"
        )
    return None


def impossible_search(build: Mapping[str, int], search: Mapping[str, int]) -> str | None:
    if search.get("nprobe", 0) > build.get("nlist", math.inf):
        return f"nprobe {search['nprobe']:,} is more than nlist {build['nlist']:,}"
    for name in AT_LEAST_K:
        if search.get(name, LIMIT) < LIMIT:
            return f"{name} {search[name]} is less than {LIMIT}, the hits of a search for {K} and its own query"
    if search.get("refine_k") and not build.get("refine", 1):
        return "refine_k without refine"
    return None


def default_build_axes(kind: str, ground: Ground) -> Axes:
    """Good without thought. Lists: four times the square root of a segment's rows, if it can train so many."""
    rows, dimension, many = ground.rows, ground.dimension, ground.total > MANY_ROWS
    wanted = 4096 if many else min(65_536, round(4 * math.sqrt(rows)))
    lists = [max(1, min(wanted, rows // VECTORS_PER_LIST))]
    parts = [largest_divisor(dimension, dimension // share) for share in ((8, 4, 2) if many else (4,))]
    return {
        "HNSW": {"M": [16, 32], "efConstruction": [200]},
        "HNSW_SQ": {"M": [16, 32], "efConstruction": [200], "refine": [0, 1]},
        "IVF_FLAT": {"nlist": lists},
        "IVF_SQ8": {"nlist": lists},
        "IVF_PQ": {"nlist": lists, "m": parts, "nbits": [8]},
        "IVF_RABITQ": {"nlist": lists, "refine": [0, 1]},
        "SCANN": {"nlist": lists},
        "GPU_IVF_FLAT": {"nlist": lists},
        "GPU_IVF_PQ": {"nlist": lists, "m": parts, "nbits": [8]},
        "GPU_CAGRA": {"intermediate_graph_degree": [64], "graph_degree": [32]},
    }.get(kind, {})


def default_search_axes(kind: str, build: Mapping[str, int]) -> Axes:
    nlist = build.get("nlist", 0)
    # Shares of the lists, so that the values fit any number of them.
    probes = sorted({max(1, math.ceil(nlist / share)) for share in (128, 64, 32, 16, 8, 4)})
    few = sorted({max(1, math.ceil(nlist / share)) for share in (64, 16, 4)})
    refined = {"refine_k": [2, 4]} if build.get("refine") else {}
    return {
        "HNSW": {"ef": [16, 32, 64, 128, 256]},
        "HNSW_SQ": {"ef": [32, 64, 128], **refined},
        "SCANN": {"nprobe": few, "reorder_k": [50, 200]},
        "DISKANN": {"search_list": [20, 50, 100, 200]},
        "GPU_CAGRA": {"itopk_size": [32, 64, 128]},
        "IVF_RABITQ": {"nprobe": few, **refined},
    }.get(kind, {"nprobe": probes} if nlist else {})
