"""What an index of so many chunks asks for: computed from measured rates, by formulas that stand here alone."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .errors import ConfigurationError
from .vectors.index import BUILD, default_build
from .vectors.plan import partition_limit
from .vectors.weight import ID, computed_bytes

NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMbB]?)")
FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
# Indexes that are always told, beside the one that was asked for.
COMPARED = ("FLAT", "HNSW", "IVF_SQ8", "IVF_PQ")
# Six numbers and keys of 64 hexadecimal digits, and what a path and headings are long.
OTHER_FIELD_BYTES = 6 * ID + 2 * 64 + 200
# Rows of one time range: a range is built, and rebuilt, as a whole.
ROWS_PER_PARTITION = 1_000_000
# A current server: it has the fewest partitions.
SERVER = (2, 6, 0)
# A token of English, and of what is like it.
BYTES_PER_TOKEN = 4
BYTES_OF_NUMBER = 4
CORES_PER_EXECUTOR = 8
# Of the model whose speed is in Rates.
RATED_DIMENSION = 384
# tests/bench/test_sizing.py, a million rows of 384 numbers, IVF_SQ8: what the server answered with, over what is
# computed here (1.66 and 1.17 GB); and what it had above that while it loaded and built, over the vectors of the rows
# that are built at a time (1.12 and 1.54 GB).
HEADROOM = 1.42
BUILDING = 0.73
# load.wave_rows, as it is unset.
ROWS_BUILT = 2_000_000


@dataclass(frozen=True)
class Rates:
    """What was measured, on one core or one GPU, and where."""

    # tests/bench/test_parse_and_chunk.py, one core of a server processor: mails 2.3 MB/s, PEPs 6.8, PDFs 7.7, HTML 14.
    parse_megabytes: float = 5.0
    # PEPs, one such core, words met for the first time.
    chunk_passages: float = 5_000.0
    # tests/bench/test_kernel.py: all-MiniLM-L6-v2, float32, half of what two cores do.
    embed_tokens_per_core: float = 3_200.0
    # The same on one H100, bfloat16, texts of 149 tokens, one process.
    embed_tokens_per_gpu: float = 50_000.0 * 149
    # tests/bench/test_sizing.py: a million rows of 384 numbers in four ranges, IVF_SQ8, Milvus and its index beside it
    # on two cores. (100,000 with HNSW: 690; a million without an index: 2,650.)
    load_rows: float = 566.0


@dataclass(frozen=True)
class Demand:
    """What is to be indexed. tokens: of a chunk; kilobytes: of a document's file."""

    chunks: int
    dimension: int = 384
    index: str = "IVF_SQ8"
    tokens: int = 149
    chunks_per_document: float = 10.0
    kilobytes: float = 100.0
    hours: float = 24.0


@dataclass(frozen=True)
class Sizing:
    """What it takes. core_hours: of each stage, embed on the CPU; gpu_hours: embed on GPUs instead. Within the hours,
    one stage after the other: executors, for all stages but embed, and gpus for embed, or cpu_executors for all of
    them. memory_bytes: of Milvus, by index, fields, headroom and room to build included. rates: what it is computed
    from; is_own_rate: whether those of embedding are for vectors as long as these, or were both given."""

    documents: int
    core_hours: Mapping[str, float]
    gpu_hours: float
    executors: int
    gpus: int
    cpu_executors: int
    partitions: int
    memory_bytes: Mapping[str, int]
    hours: float
    rates: Rates
    is_own_rate: bool
    cores_per_executor: int = CORES_PER_EXECUTOR


def size(demand: Demand, rates: Rates | None = None) -> Sizing:
    """Raises ConfigurationError for an index type that there is none of."""
    rates = rates or Rates()
    documents = math.ceil(demand.chunks / demand.chunks_per_document)
    seconds = {
        "ingest": documents * demand.kilobytes / 1000 / rates.parse_megabytes,
        "chunk": demand.chunks / rates.chunk_passages,
        "embed": demand.chunks * demand.tokens / rates.embed_tokens_per_core,
        "load": demand.chunks / rates.load_rows,
    }
    on_gpu = demand.chunks * demand.tokens / rates.embed_tokens_per_gpu
    within = demand.hours * 3600
    without_embed = sum(seconds.values()) - seconds["embed"]
    # Of the time that there is, GPUs take at most half.
    gpus = math.ceil(on_gpu / (within / 2))
    # `_default`, and one for a generation that is being built.
    partitions = min(math.ceil(demand.chunks / ROWS_PER_PARTITION), partition_limit(SERVER) - 2)
    return Sizing(
        documents,
        {stage: each / 3600 for stage, each in seconds.items()},
        on_gpu / 3600,
        math.ceil(without_embed / (within - on_gpu / gpus) / CORES_PER_EXECUTOR),
        gpus,
        math.ceil(sum(seconds.values()) / within / CORES_PER_EXECUTOR),
        partitions,
        {
            kind: memory_bytes(replace(demand, index=kind), partitions)
            for kind in dict.fromkeys((demand.index, *COMPARED))
        },
        demand.hours,
        rates,
        demand.dimension == RATED_DIMENSION
        or (
            rates.embed_tokens_per_core != Rates.embed_tokens_per_core
            and rates.embed_tokens_per_gpu != Rates.embed_tokens_per_gpu
        ),
    )


def memory_bytes(demand: Demand, partitions: int) -> int:
    """Of Milvus: the index of each partition, and all fields but the vectors, which the index stands for, times
    HEADROOM; and the room to build as many rows as are built at a time."""
    kind = index_type(demand.index)
    rows = math.ceil(demand.chunks / partitions)
    build = default_build(kind, demand.dimension, rows)
    index = partitions * computed_bytes(kind, build, rows, demand.dimension)
    fields = demand.chunks * (demand.tokens * BYTES_PER_TOKEN + OTHER_FIELD_BYTES)
    building = min(demand.chunks, ROWS_BUILT) * demand.dimension * BYTES_OF_NUMBER * BUILDING
    return round((index + fields) * HEADROOM + building)


def index_type(name: str) -> str:
    """Raises ConfigurationError for one that there is none of."""
    if name.upper() not in BUILD:
        raise ConfigurationError(f"--index {name}: there is no such type. Known: {', '.join(BUILD)}.")
    return name.upper()


def whole_number(text: str, option: str) -> int:
    """150M, 1.5B, 20k or 1000000. Raises ConfigurationError for anything else, and for nothing at all."""
    found = NUMBER.fullmatch(text.replace(",", "").replace("_", "").strip())
    number = round(float(found[1]) * FACTORS[found[2].lower()]) if found else 0
    if number < 1:
        raise ConfigurationError(f"{option} {text}: expected a number such as 150M, 1B, 20k or 1000000.")
    return number
