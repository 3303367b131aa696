"""Files to searchable passages, everything included: lakevec against LangChain's index() into the same Milvus server,
and Daft to Parquet (which is searchable by nobody).

The text files of LAKEVEC_BENCH_FOLDER (unset: of the sample), so many of them as LAKEVEC_BENCH_FILES says, such as
"60 240"; more than there are come again, with another first line. Same model, passages of 256 tokens at most, an
overlap of 32, no index beyond FLAT. LAKEVEC_BENCH_PEERS names who takes part, in interleaved rounds;
LAKEVEC_BENCH_DTYPE is lakevec's number format (unset: float32, as its peers have it). Then the same once more with
nothing new, and with one file changed.
"""

import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from lakevec.jobs.lake.tables import CHUNKS
from lakevec.udfs.model import find_model
from pyspark.sql import functions as F

from .passages import spread
from .peer import PEERS, Ran, environment, timed

SIZES = [int(number) for number in os.environ.get("LAKEVEC_BENCH_FILES", "60").split()]
NAMES = os.environ.get("LAKEVEC_BENCH_PEERS", "langchain daft").split()
ROUNDS = int(os.environ.get("LAKEVEC_BENCH_ROUNDS", "3"))
DTYPE = os.environ.get("LAKEVEC_BENCH_DTYPE", "float32")
TURNS = ("first", "nothing new", "one changed")

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3 * 3600)]


def text_files(otherwise: Path) -> list[Path]:
    folder = os.environ.get("LAKEVEC_BENCH_FOLDER")
    if not folder:
        runpy.run_path("notebooks/sample.py")["write_sample"](otherwise)
    return [file for file in sorted(Path(folder or otherwise).rglob("*")) if file.suffix in (".txt", ".md", ".rst")]


def write_corpus(files: list[Path], count: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        again, file = number // len(files), files[number % len(files)]
        content = file.read_bytes()
        (folder / f"{number:05d}{file.suffix}").write_bytes(f"{again}\n\n".encode() + content if again else content)


def change_one(folder: Path) -> None:
    file = min(folder.iterdir())
    file.write_bytes(file.read_bytes() + b"\n\nOne more thing was decided.\n")


@pytest.mark.parametrize("count", SIZES)
def test_files_to_searchable(new_lakehouse, tmp_path, count, keep):
    files = text_files(tmp_path / "sample")
    found: dict[str, dict[str, list[Ran]]] = {name: {turn: [] for turn in TURNS} for name in ("lakevec", *NAMES)}
    sizes: dict[str, dict[str, int]] = {}
    for number in range(ROUNDS):
        # In turns, so that no one always finds the files in the system's cache.
        for name in found if number % 2 == 0 else reversed(found):
            place = tmp_path / f"{name}-{number}"
            place.mkdir()
            lakehouse = new_lakehouse(place, "index.type=FLAT", "mlflow.experiment=")
            lakehouse.source.rmdir()
            # A first run makes its lake, in its number format.
            shutil.rmtree(place / "lake")
            write_corpus(files, count, lakehouse.source)
            command = command_of(name, lakehouse, place)
            for turn in TURNS:
                if turn == "one changed":
                    change_one(lakehouse.source)
                found[name][turn].append(timed(command))
            sizes[name] = size_of(name, lakehouse, found[name]["first"][-1])
    keep({"files": count, "dtype": DTYPE, "sizes": sizes, **{turn: figures(turn, found, sizes) for turn in TURNS}})


def command_of(name: str, lakehouse, place: Path) -> list[str | Path]:
    settings, model = lakehouse.settings, find_model(lakehouse.settings.model.name).path
    if name == "lakevec":
        more = ("index.type=FLAT", "mlflow.experiment=", f"model.dtype={DTYPE}")
        said = [*lakehouse.options, *(word for setting in more for word in ("--set", setting))]
        return [sys.executable, "-m", "lakevec.jobs.cli", "--json", *said, "run", "--once"]
    if name == "langchain":
        program, target = "index_with_langchain.py", [settings.milvus.uri, settings.milvus.collection]
        return [environment(name), PEERS / program, lakehouse.source, *target, model, place / "records.db"]
    return [environment(name), PEERS / "embed_with_daft.py", lakehouse.source, model, place / "parquet"]


def size_of(name: str, lakehouse, first: Ran) -> dict[str, int]:
    """Passages, and characters of what was embedded."""
    if name != "lakevec":
        return {key: first.answer[key] for key in ("passages", "characters")}
    embedded = F.length(F.concat("prefix", "text"))
    row = lakehouse.lake().tables.read(CHUNKS).agg(F.count("*"), F.sum(embedded)).first()
    return {"passages": row[0], "characters": row[1]}


def figures(turn: str, found: dict[str, dict[str, list[Ran]]], sizes: dict[str, dict[str, int]]) -> dict:
    """Seconds of each, and how many times as fast as each peer lakevec was, round by round; for the first turn by
    passages and by characters, too, as each cuts its own."""
    ours = found["lakevec"][turn]
    told: dict = {
        name: {
            "seconds": spread(ran.seconds for ran in turns[turn]),
            "cpu_seconds": spread(ran.cpu_seconds for ran in turns[turn]),
        }
        for name, turns in found.items()
    }
    for name in found.keys() - {"lakevec"}:
        theirs = found[name][turn]
        pairs = list(zip(theirs, ours, strict=True))
        ratios = {"seconds": spread(their.seconds / our.seconds for their, our in pairs)}
        if turn == "first":
            more = {key: sizes["lakevec"][key] / sizes[name][key] for key in ("passages", "characters")}
            ratios |= {
                "passages_per_second": spread(more["passages"] * their.seconds / our.seconds for their, our in pairs),
                "characters_per_second": spread(
                    more["characters"] * their.seconds / our.seconds for their, our in pairs
                ),
                "characters_per_cpu_second": spread(
                    more["characters"] * their.cpu_seconds / our.cpu_seconds for their, our in pairs
                ),
            }
        told[f"times_{name}"] = ratios
    return told
