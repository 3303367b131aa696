"""Files to searchable passages: lakevec against LangChain's index() into the same Milvus server, and Daft and Ray Data
to Parquet (which is searchable by nobody).

The files of LAKEVEC_BENCH_FOLDER (unset: of the sample) with LAKEVEC_BENCH_SUFFIXES (unset: text files; or ".pdf"), so
many of them as LAKEVEC_BENCH_FILES says, such as "60 240"; more text files than there are come again, with another
first line. Same model, passages of 256 tokens at most, an
overlap of 32, no index beyond FLAT, nothing to MLflow; the server runs already, all else is started.
Each program ran once before, on one file, and has in its caches what such a run leaves there.
LAKEVEC_BENCH_DTYPES are lakevec's number formats (unset: float32, as its peers have it), LAKEVEC_BENCH_PEERS names who
takes part beside it, in interleaved rounds. Then the same once more with nothing new, and with one file changed.
"""

import itertools
import os
import runpy
import shutil
import sys
import time
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from lakevec.jobs.lake.class_archive import is_whole
from lakevec.jobs.lake.jars import cache_folder
from lakevec.jobs.lake.tables import CHUNKS
from lakevec.udfs.model import find_model
from pymilvus import MilvusClient

from .passages import deciles_of_tokens, spread
from .peer import PEERS, Ran, environment, timed

SIZES = [int(number) for number in os.environ.get("LAKEVEC_BENCH_FILES", "60").split()]
NAMES = os.environ.get("LAKEVEC_BENCH_PEERS", "langchain daft ray").split()
SUFFIXES = os.environ.get("LAKEVEC_BENCH_SUFFIXES", ".txt .md .rst").split()
ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "3"))
# lakevec in each number format.
OURS = {f"lakevec, {dtype}": dtype for dtype in os.environ.get("LAKEVEC_BENCH_DTYPES", "float32").split()}
SECONDS_TO_ARCHIVE = 60
TURNS = ("first", "nothing new", "one changed")

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3 * 3600)]


def files_found(otherwise: Path) -> list[Path]:
    folder = os.environ.get("LAKEVEC_BENCH_FOLDER")
    if not folder:
        runpy.run_path("notebooks/sample.py")["write_sample"](otherwise)
    return [file for file in sorted(Path(folder or otherwise).rglob("*")) if file.suffix in SUFFIXES]


def write_corpus(files: list[Path], count: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    assert count <= len(files) or ".pdf" not in SUFFIXES, f"There are {len(files)} PDFs, and none can come again."
    for number in range(count):
        again, file = number // len(files), files[number % len(files)]
        content = file.read_bytes()
        (folder / f"{number:05d}{file.suffix}").write_bytes(f"{again}\n\n".encode() + content if again else content)


def change_one(folder: Path) -> None:
    """A PDF has one more comment, and the same text."""
    file = min(folder.iterdir())
    more = b"\n% once more\n" if file.suffix == ".pdf" else b"\n\nOne more thing was decided.\n"
    file.write_bytes(file.read_bytes() + more)


@pytest.mark.parametrize("count", SIZES)
def test_files_to_searchable(new_lakehouse, tmp_path, count, keep):
    files = files_found(tmp_path / "sample")
    found: dict[str, dict[str, list[Ran]]] = {name: {turn: [] for turn in TURNS} for name in (*OURS, *NAMES)}
    passages: dict[str, int] = {}

    def begun(name: str, place: Path, count: int):
        place.mkdir()
        lakehouse = new_lakehouse(place, "index.type=FLAT", "mlflow.experiment=")
        lakehouse.source.rmdir()
        # A first run makes its lake, in its number format.
        shutil.rmtree(place / "lake")
        write_corpus(files, count, lakehouse.source)
        return lakehouse, command_of(name, lakehouse, place)

    now = time.time()
    for name in found:
        _, command = begun(name, tmp_path / name, 1)
        timed(command)
    wait_for_class_archive(now)
    for number in range(ROUNDS):
        # In turns, so that no one always finds the files in the system's cache.
        for name in found if number % 2 == 0 else reversed(found):
            place = tmp_path / f"{name}-{number}"
            lakehouse, command = begun(name, place, count)
            for turn in TURNS:
                if turn == "one changed":
                    change_one(lakehouse.source)
                found[name][turn].append(timed(command))
                if turn == "first":
                    size = sum(file.stat().st_size for file in lakehouse.source.iterdir())
                    passages[name] = passages_in(name, lakehouse, place)
            if name in OURS:
                lengths = [row[0] for row in lakehouse.lake().tables.read(CHUNKS).select("tokens").collect()]
    keep(
        {
            "files": count,
            "megabytes": round(size / 1e6, 2),
            "deciles_of_tokens": deciles_of_tokens(lengths),
            "passages": passages,
            **{turn: figures(turn, found, passages) for turn in TURNS},
        }
    )


def wait_for_class_archive(since: float) -> None:
    """The JVM of a session that makes one goes on for some seconds."""
    tried = [each for each in cache_folder().glob("classes-*.tried") if each.stat().st_mtime >= since]
    until = time.monotonic() + SECONDS_TO_ARCHIVE
    while not all(is_whole(each.with_suffix(".jsa")) for each in tried):
        assert time.monotonic() < until, (
            f"No archive of classes came of {tried}, and runs would be slower than users' own."
        )
        time.sleep(1)


def command_of(name: str, lakehouse, place: Path) -> list[str | Path]:
    settings, model = lakehouse.settings, find_model(lakehouse.settings.model.name).path
    if name in OURS:
        more = ("index.type=FLAT", "mlflow.experiment=", f"model.dtype={OURS[name]}")
        said = [*lakehouse.options, *(word for setting in more for word in ("--set", setting))]
        return [sys.executable, "-m", "lakevec.jobs.cli", "--json", *said, "run", "--once"]
    if name == "langchain":
        program, target = "index_with_langchain.py", [settings.milvus.uri, settings.milvus.collection]
        return [environment(name), PEERS / program, lakehouse.source, *target, model, place / "records.db"]
    return [environment(name), PEERS / f"embed_with_{name}.py", lakehouse.source, model, place / "parquet"]


def passages_in(name: str, lakehouse, place: Path) -> int:
    """How many passages can be found, in Milvus, or in Parquet."""
    if name in OURS:
        return lakehouse.assert_mirrored()
    if name == "langchain":
        client = MilvusClient(lakehouse.settings.milvus.uri)
        (found,) = client.query(
            lakehouse.settings.milvus.collection, "", output_fields=["count(*)"], consistency_level="Strong"
        )
        return found["count(*)"]
    return ds.dataset(place / "parquet").count_rows()


def figures(turn: str, found: dict[str, dict[str, list[Ran]]], passages: dict[str, int]) -> dict:
    """Seconds of each, and in how many times the time of lakevec each peer did the same files, round by round; for the
    first turn by passages, too, of which lakevec makes more."""
    told: dict = {
        name: {
            "seconds": spread(ran.seconds for ran in turns[turn]),
            "cpu_seconds": spread(ran.cpu_seconds for ran in turns[turn]),
        }
        for name, turns in found.items()
    }
    for ours, theirs in itertools.product(OURS, NAMES):
        pairs = list(zip(found[ours][turn], found[theirs][turn], strict=True))
        ratios = {
            "seconds": spread(their.seconds / our.seconds for our, their in pairs),
            "cpu_seconds": spread(their.cpu_seconds / our.cpu_seconds for our, their in pairs),
        }
        if turn == "first":
            more = passages[ours] / passages[theirs]
            ratios["passages_per_second"] = spread(more * their.seconds / our.seconds for our, their in pairs)
        told[f"{ours}, to {theirs}"] = ratios
    return told
