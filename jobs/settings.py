"""What can be set, and how the layers are put together.

A setting's name, type, default and help stand here and nowhere else. Values come from
`conf/base.yml`, then `conf/<profile>.yml`, then the environment (`LAKEVEC__SECTION__KEY`), then
`--set section.key=value`; the later wins.

Names in the environment may be written in any case, but for what stands below a map: the names of Spark
settings are taken as they are written, with a dot for every `__`
(`LAKEVEC__SPARK__CONF__spark__executor__memory=8g`); those of index parameters as far as they are
ambiguous (`LAKEVEC__INDEX__BUILD__M` is M, `..._m` is m, `..._EFCONSTRUCTION` is efConstruction).

Values given as text are text where the setting is one, and read as YAML where it is not.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from ..udfs.model import INT8, Compute
from .errors import ConfigurationError

ENVIRONMENT_PREFIX = "LAKEVEC__"

IndexType = Literal[
    "HNSW", "FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN",
    # Not on every server.
    "DISKANN", "GPU_IVF_FLAT", "GPU_IVF_PQ", "GPU_CAGRA", "HNSW_SQ", "IVF_RABITQ",
]  # fmt: skip
Granularity = Literal["day", "week", "month", "quarter", "year"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    path: str | None = Field(None, description="Folder, bucket or volume with the documents")
    include: list[str] = Field([], description="Read only files whose path matches one of these globs")
    exclude: list[str] = Field([], description="Leave out files whose path matches one of these globs")
    max_delete_fraction: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Above 20 files, stop when more than this share of them is gone from the source",
    )


class Ingest(Section):
    max_files: int = Field(5000, ge=1, description="Files read, parsed and committed at a time, newest first")
    unreadable: Literal["keep", "remove"] = Field(
        "keep",
        description="When a new version of a known file cannot be parsed: keep its old text in the index, or remove it",
    )


class Parse(Section):
    timeout_seconds: float = Field(120, gt=0, description="Longest time that one file may take to parse")
    memory_mb: int = Field(3072, ge=64, description="Most memory that parsing one file may take")


class Lake(Section):
    path: str | None = Field(None, description="Folder of the Delta tables and of the checkpoints")
    catalog_schema: str | None = Field(
        None, description="catalog.schema for the tables; lake.path then holds the checkpoints only"
    )


class Chunk(Section):
    strategy: Literal["heading", "recursive", "fixed"] = Field(
        "heading", description="How text is split; heading never crosses a heading and carries its path"
    )
    tokens: int = Field(256, ge=16, description="Most tokens of a chunk, counted with what is embedded with it")
    overlap: int = Field(32, ge=0, description="Tokens that neighbouring chunks share")


class Model(Section):
    name: str = Field(
        "all-MiniLM-L6-v2",
        description="The packaged all-MiniLM-L6-v2, a local folder, or a name on a model hub",
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps; unset: the best there is, in int8 the CPU")
    dtype: Literal["float32", "bfloat16", "float16", "int8"] = Field(
        "float32", description="Number format of the computation; bfloat16 or float16 for GPUs, int8 for CPUs"
    )
    batch_tokens: int | None = Field(
        None,
        ge=256,
        description="Padded tokens that go through the model at a time; unset: 512 on a CPU, 131,072 on a GPU",
    )

    @field_validator("dtype")
    @classmethod
    def int8_is_for_cpus(cls, dtype: str, others: ValidationInfo) -> str:
        device = others.data.get("device")
        if dtype == INT8 and device not in (None, "cpu"):
            raise ValueError(f"int8 is computed on CPUs alone, and model.device is {device}; GPUs have bfloat16")
        return dtype


class Gpu(Section):
    memory_fraction: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Most of a GPU's memory that embedding may take; a batch beyond it is halved",
    )
    tasks: int | None = Field(
        None,
        ge=1,
        description="Embedding tasks that share one GPU; on one machine, how many embed at once; unset: as many as "
        "Spark's settings allow",
    )


class Embed(Section):
    piece_seconds: float = Field(
        20, gt=0, description="About how long one piece of embedding takes before it is committed to `vectors`"
    )


class Pipeline(Section):
    trigger_seconds: float = Field(
        1, gt=0, description="With --continuous, how often each stage looks for work; a slow listing less often"
    )
    max_waiting_chunks: int | None = Field(
        None,
        ge=1,
        description="With --continuous, files are taken in while fewer chunks than this wait between the stages; "
        "unset: what is embedded in 4 seconds",
    )


class Partition(Section):
    granularity: Granularity = Field("year", description="Time range of one Milvus partition")


class Milvus(Section):
    uri: str = Field(
        "standalone",
        description="A server's address; standalone: the packaged server, started and owned by lakevec; "
        "or a path ending in .db: Milvus Lite",
    )
    token: SecretStr | None = Field(None, description="user:password or API key of the server")
    collection: str = Field(
        "lakevec", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Alias under which readers find the index"
    )
    max_partitions: int | None = Field(
        None, ge=3, description="Most partitions of a collection; unset: the default of the server's version"
    )


class Index(Section):
    type: IndexType = Field("HNSW", description="Vector index of the Milvus collection")
    build: dict[str, int] = Field({}, description="Build parameters, such as M, efConstruction, nlist, m, nbits")
    search: dict[str, int] = Field({}, description="Search parameters, such as ef, nprobe, reorder_k")


class Load(Section):
    staging: str | None = Field(
        None, description="Where import files are written: a folder or bucket that the Milvus server reads"
    )
    build_rows: int = Field(20_000, ge=0, description="A range with more changed rows than this may be built anew")
    build_share: float = Field(0.5, ge=0, le=1, description="... if they are also more than this share of the range")
    wave_rows: int = Field(
        2_000_000, ge=1, description="Rows that are built at a time: bounds staging and the server's memory"
    )


class Tune(Section):
    target_recall: float = Field(
        0.95, gt=0, lt=1, description="Recall@10 that the lower end of a setting's 95% interval must reach"
    )
    max_p99_ms: float | None = Field(
        None,
        gt=0,
        description="Longest that 99 of 100 searches may take in the index alone, as it is measured",
    )
    max_memory: ByteSize | None = Field(None, description="Most memory that the index may take, such as 4GiB")
    queries: int = Field(
        1000, ge=50, description="Passages that are sampled as queries, 50 or more; at most every tenth is one"
    )
    grid: dict[str, dict[str, list[int]]] = Field(
        {},
        description="What is tried: index types with the values of their parameters, such as HNSW: {M: [16, 32], "
        "ef: [64, 128]}; unset: a grid that fits the rows",
    )


class Mlflow(Section):
    tracking_uri: str | None = Field(None, description="Tracking store; unset: SQLite beside lake.path")
    experiment: str = Field(
        "lakevec",
        description="Experiment that builds are logged to; off where empty, and then `lakevec tune` is refused",
    )


class Spark(Section):
    master: str | None = Field(
        None, description="Spark master, such as local[2]; unset: the session that is there, or Spark's default"
    )
    conf: dict[str, str] = Field({}, description="Spark settings, such as spark.conf.spark.executor.memory=8g")

    @field_validator("conf", mode="before")
    @classmethod
    def as_spark_writes_them(cls, conf: Any) -> Any:
        if not isinstance(conf, Mapping):
            return conf
        return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in conf.items()}


class Settings(Section):
    source: Source = Source()  # pyright: ignore[reportCallIssue]
    ingest: Ingest = Ingest()  # pyright: ignore[reportCallIssue]
    parse: Parse = Parse()  # pyright: ignore[reportCallIssue]
    lake: Lake = Lake()  # pyright: ignore[reportCallIssue]
    chunk: Chunk = Chunk()  # pyright: ignore[reportCallIssue]
    model: Model = Model()  # pyright: ignore[reportCallIssue]
    gpu: Gpu = Gpu()  # pyright: ignore[reportCallIssue]
    embed: Embed = Embed()  # pyright: ignore[reportCallIssue]
    pipeline: Pipeline = Pipeline()  # pyright: ignore[reportCallIssue]
    partition: Partition = Partition()  # pyright: ignore[reportCallIssue]
    milvus: Milvus = Milvus()  # pyright: ignore[reportCallIssue]
    index: Index = Index()  # pyright: ignore[reportCallIssue]
    load: Load = Load()  # pyright: ignore[reportCallIssue]
    tune: Tune = Tune()  # pyright: ignore[reportCallIssue]
    mlflow: Mlflow = Mlflow()  # pyright: ignore[reportCallIssue]
    spark: Spark = Spark()  # pyright: ignore[reportCallIssue]
    explicit: frozenset[str] = Field(
        frozenset(), exclude=True, description="Settings that somebody set, as section.key; not itself a setting"
    )

    @property
    def compute(self) -> Compute:
        """What the model runs on."""
        return Compute(self.model.device, self.model.dtype, self.model.batch_tokens, self.gpu.memory_fraction)

    @property
    def compute_of_questions(self) -> Compute:
        """What questions are embedded with: in float32 where passages are in int8. For one text that takes no longer,
        and the answers are nearer to those of exact vectors."""
        return replace(self.compute, dtype="float32") if self.model.dtype == INT8 else self.compute


# Free-form maps: what follows section.key. is one key of theirs, dots included.
MAPS = {("spark", "conf"), ("index", "build"), ("index", "search"), ("tune", "grid")}
INDEX_PARAMETERS = {
    "build": (
        "M",
        "efConstruction",
        "nlist",
        "m",
        "nbits",
        "with_raw_data",
        "refine",
        "intermediate_graph_degree",
        "graph_degree",
    ),
    "search": ("ef", "nprobe", "reorder_k", "search_list", "itopk_size", "search_width", "refine_k"),
}


@dataclass(frozen=True)
class Layer:
    """Settings of one origin, nested by section. `origin` is how an error names it."""

    origin: str
    values: Mapping[str, Any]


def load_settings(
    profile: str | None = None,
    overrides: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Put the layers together.

    profile: a name in conf/ or the path of a YAML file.
    overrides: `section.key=value` each, as given to --set.
    Raises ConfigurationError for an unknown key (with its origin and the nearest right name) and for
    a value of the wrong type.
    """
    environment = os.environ if environment is None else environment
    base = profile_layer("base")
    layers = [
        profile_layer(profile or environment.get("LAKEVEC_PROFILE") or "local"),
        environment_layer(environment),
        override_layer(overrides),
    ]
    merged: dict[str, dict[str, Any]] = {}
    for layer in [base, *layers]:
        merge_into(merged, layer)
    explicit = frozenset(
        f"{section}.{key}" for layer in layers for section, keys in layer.values.items() for key in keys
    )
    try:
        return Settings.model_validate({**merged, "explicit": explicit})
    except ValidationError as error:
        raise ConfigurationError(in_words(error, [*layers, base])) from error


def profile_layer(profile: str) -> Layer:
    if profile.endswith((".yml", ".yaml")):
        file = Path(profile)
        if not file.is_file():
            raise ConfigurationError(f"--profile {profile}: there is no such file.")
        text = file.read_text()
    else:
        conf = resources.files(__name__.rpartition(".jobs.")[0] + ".conf")
        file = conf / f"{profile}.yml"
        if not file.is_file():
            known = sorted(p.name[:-4] for p in conf.iterdir() if p.name.endswith(".yml") and "compose" not in p.name)
            raise ConfigurationError(
                f"--profile {profile}: there is no conf/{profile}.yml. Known profiles: {', '.join(known)}; "
                "or give the path of a .yml file."
            )
        text = file.read_text()
    origin = file.name if isinstance(file, Path) else f"conf/{profile}.yml"
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        # Without the line itself, and without the error that holds it: it may be a secret's.
        raise ConfigurationError(f"{origin} is not valid YAML: {yaml_problem(error)}.") from None
    if not isinstance(values, dict) or not all(isinstance(keys, dict) for keys in values.values()):
        raise ConfigurationError(f"{origin}: expected sections with keys, as in `source:\\n  path: ...`.")
    return Layer(origin, values)


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and in which line, without a word of the file."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it is not text of printable characters"
    problem = re.sub(r"'[^'<>]{2,}'", "'...'", error.problem or "it cannot be read")
    return f"{problem}, line {error.problem_mark.line + 1}" if error.problem_mark else problem


def environment_layer(environment: Mapping[str, str]) -> Layer:
    values: dict[str, dict[str, Any]] = {}
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            path = environment_path(name)
            put(values, path, text, f"environment variable {name}")
    return Layer("environment", values)


def environment_path(name: str) -> list[str]:
    """Section, key and, below a map, the names that follow, of LAKEVEC__SECTION__KEY."""
    path = name[len(ENVIRONMENT_PREFIX) :].split("__")
    section, key, rest = *(part.lower() for part in [*path, ""][:2]), path[2:]
    if (section, key) == ("spark", "conf") and rest and "".join(rest).isupper():
        raise ConfigurationError(
            f"Environment variable {name}: upper and lower case matter in the names of Spark settings. Write it as "
            "LAKEVEC__SPARK__CONF__spark__executor__memory, or use --set spark.conf.spark.executor.memory=... or a "
            "profile."
        )
    if section == "index" and key in INDEX_PARAMETERS and len(rest) == 1:
        known = INDEX_PARAMETERS[key]
        meant = [parameter for parameter in known if parameter.lower() == rest[0].lower()]
        rest = meant if len(meant) == 1 else rest
    return [section, key, *rest] if len(path) > 1 else [section]


def override_layer(overrides: Iterable[str]) -> Layer:
    values: dict[str, dict[str, Any]] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            # Without what may be the value of a secret.
            shown = re.split(r"[:\s]", override)[0]
            raise ConfigurationError(f"--set {shown}: expected section.key=value.")
        put(values, name.strip().split("."), text, f"--set {name}")
    return Layer("--set", values)


def put(values: dict[str, dict[str, Any]], path: list[str], text: str, origin: str) -> None:
    """Set one value, given as text, at section.key (or section.map.any.key)."""
    if len(path) < 2:
        raise ConfigurationError(f"{origin}: expected a section and a key, such as source.path.")
    section, key, *rest = path
    keys = values.setdefault(section, {})
    if (section, key) in MAPS and rest:
        keys.setdefault(key, {})[".".join(rest)] = text if section == "spark" else plain_value(text)
    else:
        keys[".".join([key, *rest])] = text if not rest and is_text(section, key) else plain_value(text)


def is_text(section: str, key: str) -> bool:
    """Whether this setting takes text, so that 2024, on and 0123 are text there."""
    fields = getattr(getattr(Settings.model_fields.get(section), "annotation", None), "model_fields", {})
    annotation = fields[key].annotation if key in fields else None
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return all(part in (str, SecretStr, type(None)) or get_origin(part) is Literal for part in parts) and key in fields


def plain_value(text: str) -> Any:
    """Numbers, booleans and lists as YAML reads them; everything else, dates included, as it stands."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    is_plain = isinstance(value, bool | int | float | list | dict) or (value is None and text)
    return value if is_plain else text


def merge_into(merged: dict[str, dict[str, Any]], layer: Layer) -> None:
    """Add a layer's values over those that are there; unknown names are errors."""
    for section, keys in layer.values.items():
        if section == "explicit" or section not in Settings.model_fields:
            raise unknown(section, (name for name in Settings.model_fields if name != "explicit"), layer.origin)
        known = Settings.model_fields[section].annotation.model_fields  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        for key, value in keys.items():
            if key not in known:
                raise unknown(f"{section}.{key}", (f"{section}.{name}" for name in known), layer.origin)
            present = merged.setdefault(section, {})
            if (section, key) in MAPS and isinstance(value, dict):
                present[key] = {**present.get(key, {}), **value}
            else:
                present[key] = value


def unknown(name: str, known: Iterable[str], origin: str) -> ConfigurationError:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
    return ConfigurationError(f"Unknown setting {name} ({origin}). {hint}")


def in_words(error: ValidationError, layers: list[Layer]) -> str:
    """One line per wrong value: its name, origin and what is wrong; never the value of a secret."""
    lines = []
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        origin = next(
            (layer.origin for layer in reversed(layers[:-1]) if place[1] in layer.values.get(place[0], {})),
            layers[-1].origin,
        )
        value = "" if "token" in place else f", got {problem['input']!r}"
        lines.append(f"{'.'.join(place)} ({origin}): {problem['msg']}{value}")
    return "\n".join(lines)


def required(value: str | None, name: str) -> str:
    """The value of a setting that this command cannot do without."""
    if not value:
        raise ConfigurationError(f"{name} is not set. Give it as --set {name}=... or in a profile.")
    return value
