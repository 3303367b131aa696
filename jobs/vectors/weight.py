"""What an index weighs: its files, where they can be seen, else what its type and its rows come to."""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pymilvus import MilvusClient

from ..lake.storage import lake_path
from ..settings import Settings
from .connection import STANDALONE
from .index import VectorIndex
from .segments import Segment
from .server import server_folder

FLOAT, ID, LINK = 4, 8, 4
COMPUTED = "computed from type, parameters and rows"
FILES = f"index: its files on the server's disk; memory: {COMPUTED}"


@dataclass(frozen=True)
class Weight:
    """index_bytes: of its files (which are compressed), or as computed. memory_bytes: that it takes when loaded,
    with the vectors of segments too small for an index. way: how they were got."""

    index_bytes: int
    memory_bytes: int
    way: str

    def scaled(self, weighed: int, rows: int) -> "Weight":
        """What an index over `rows` rows weighs, where this is of one over `weighed`."""
        index, memory = (round(size * rows / weighed) for size in (self.index_bytes, self.memory_bytes))
        return Weight(index, memory, f"{self.way}; scaled from {weighed:,} rows to {rows:,}")


@dataclass(frozen=True)
class Scales:
    """files: where the server keeps index files, if that can be read here."""

    client: MilvusClient
    collection: str
    dimension: int
    files: Path | None

    def weigh(self, index: VectorIndex, segments: Sequence[Segment]) -> Weight:
        indexed = [each.rows for each in segments if each.is_indexed or index.type == "FLAT"]
        computed = sum(computed_bytes(index.type, index.build, rows, self.dimension) for rows in indexed)
        bare = (sum(each.rows for each in segments) - sum(indexed)) * self.dimension * FLOAT
        # The exact search has no files; what lies there is of the index before it.
        if found := self.files_bytes() if self.files and index.type != "FLAT" else 0:
            return Weight(found, computed + bare, FILES)
        return Weight(computed, computed + bare, COMPUTED)

    def files_bytes(self) -> int:
        """Bytes of the index files of the collection's segments."""
        assert self.files
        wanted = {str(each.segment_id) for each in self.client.list_loaded_segments(self.collection)}
        return newest_bytes(self.files, wanted)


def newest_bytes(files: Path, segments: Collection[str]) -> int:
    """Bytes of the newest build of each segment; those before it are removed some minutes later.

    files: holds <build>/<version>/<partition>/<segment>/<file>, builds being numbered.
    """
    newest: dict[str, Path] = {}
    for folder in sorted(files.glob("*/*/*/*"), key=lambda path: int(path.parts[-4])):
        if folder.name in segments:
            newest[folder.name] = folder
    return sum(path.stat().st_size for folder in newest.values() for path in folder.rglob("*") if path.is_file())


def scales_for(settings: Settings, client: MilvusClient, collection: str, dimension: int) -> Scales:
    files = None
    if settings.milvus.uri == STANDALONE:
        files = server_folder(lake_path(settings)) / "data" / "storage" / "index_files"
    return Scales(client, collection, dimension, files)


def computed_bytes(kind: str, build: Mapping[str, int], rows: int, dimension: int) -> int:
    """Bytes of an index over `rows` vectors, from how its type stores them."""
    vectors = rows * dimension * FLOAT
    lists = build.get("nlist", 0) * dimension * FLOAT + (rows * ID if "nlist" in build else 0)
    if kind in ("IVF_PQ", "GPU_IVF_PQ"):
        codes = rows * -(-build["m"] * build["nbits"] // 8)
        return lists + codes + (1 << build["nbits"]) * dimension * FLOAT
    if kind == "IVF_SQ8":
        return lists + rows * dimension
    if kind == "SCANN":
        # Four bits for each pair of numbers, and the vectors to rank anew by.
        return lists + rows * -(-dimension // 4) + (vectors if build.get("with_raw_data", 1) else 0)
    if kind == "IVF_RABITQ":
        return lists + rows * -(-dimension // 8) + (rows * dimension if build.get("refine") else 0)
    if kind == "DISKANN":
        # In memory: codes of about a sixth of the vectors; the rest is read from disk.
        return vectors // 6
    graph = rows * (2 * build["M"] * LINK + ID) if "M" in build else 0
    if kind == "HNSW_SQ":
        return graph + rows * dimension + (vectors // 2 if build.get("refine") else 0)
    if kind == "GPU_CAGRA":
        return vectors + rows * build["graph_degree"] * LINK
    return vectors + lists + graph
