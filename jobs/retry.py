"""`lakevec retry`: quarantined files again, without waiting for them to change."""

import fnmatch
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from ..udfs.keys import bytes_hash
from .errors import ConfigurationError
from .lake.changes import UPDATE, apply, keys_named
from .lake.lake import Lake, open_lake
from .lake.lock import STAGES, locked
from .lake.session import spark_session
from .lake.source import read_file, source_root, uri_prefix
from .lake.tables import FILES
from .progress import Progress
from .run import RunReport, run_once
from .settings import Settings, required


@dataclass(frozen=True)
class Retried:
    """What became of one file. state: parsed, quarantined (reason says why; attempts counts them), or gone."""

    uri: str
    state: str
    documents: int = 0
    reason: str | None = None
    attempts: int | None = None


@dataclass(frozen=True)
class RetryReport:
    """files: what became of each that was tried again; empty where nothing was. run: what the stages did then."""

    files: list[Retried]
    run: RunReport | None = None


def retry(
    settings: Settings, path: str | None, progress: Progress, forgotten: bool = False, allow_deletes: bool = False
) -> RetryReport:
    """Read quarantined files again, all or those that `path` matches, and follow up in all stages.

    path: a glob, as in source.include, or a file's uri. forgotten: what `forget` took of the file that `path` names by
    its whole path or uri is brought back; others that had its bytes stay away until they are named.
    allow_deletes: as in `run_once`.
    Raises ConfigurationError where nothing matches, LakeBusyError where another command writes, and what `run_once`
    raises.
    """
    root = source_root(required(settings.source.path, "source.path"))
    if forgotten and path is None:
        raise ConfigurationError("--forgotten undoes what forget did to one file: name it with --path.")
    with locked(settings, "retry"):
        lake = open_lake(spark_session(settings.spark), settings, held=STAGES)
        uris = marked(lake, root, path, forgotten)
        if not uris:
            return RetryReport([])
        progress.log("retry.marked", files=len(uris), forgotten=forgotten)
        report = run_once(settings, allow_deletes=allow_deletes, progress=progress, is_locked=True)
        return RetryReport(outcomes(lake, uris), report)


def marked(lake: Lake, root: str, path: str | None, forgotten: bool) -> list[str]:
    """The uris of files that the next listing reads again."""
    files = lake.tables.read(FILES)
    erased = files.where((F.col("state") == "forgotten") | (F.size("forgotten") > 0)).select("uri", "hash").collect()
    named = [row for row in erased if path in (row["uri"], within(row["uri"], root))]
    if forgotten:
        if not named:
            raise ConfigurationError(
                f"Nothing was forgotten of a file {path}; nothing was done. Name it by its whole path within "
                "source.path, or by its uri."
            )
        uris = [row["uri"] for row in named]
        # Each of them keeps the others away; of copies that were forgotten one after the other only the last may know
        # its hash.
        hashes = {each for row in named for each in (row["hash"], hash_now(root, row["uri"])) if each}
        bring_back(lake, uris, [row["uri"] for row in erased if row["hash"] in hashes and row["uri"] not in uris])
    else:
        quarantined = files.where("state = 'quarantined'").select("uri").orderBy("uri").collect()
        uris = [row["uri"] for row in quarantined if path is None or matches(row["uri"], root, path)]
        if path is not None and not uris:
            raise ConfigurationError(
                f"--path {path} was forgotten; nothing was done. Add --forgotten to bring it back."
                if named
                else f"--path {path} matches none of the {len(quarantined):,} quarantined files; nothing was done. "
                "`lakevec status` lists them; the glob is compared with a file's path within source.path."
            )
        read_again(lake, uris)
    return uris


def within(uri: str, root: str) -> str:
    """A file's path within the source."""
    return uri.removeprefix(f"{uri_prefix(root)}/")


def matches(uri: str, root: str, path: str) -> bool:
    return path in (uri, within(uri, root)) or fnmatch.fnmatchcase(within(uri, root), path)


def hash_now(root: str, uri: str) -> str | None:
    """Of the file's bytes; None where they cannot be had, of which the run will tell."""
    try:
        return bytes_hash(read_file(root, uri))
    except OSError:
        return None


def read_again(lake: Lake, uris: list[str]) -> None:
    """Let the next listing find that these files differ from what is known of them; their attempts count on."""
    change(lake, uris, modified_at=F.lit(None).cast("timestamp"))


def bring_back(lake: Lake, uris: list[str], alike: list[str]) -> None:
    """Let the next listing read these files as if nothing had been forgotten of them.

    Their rows stay, for the documents of theirs that are there. alike: files that had the same bytes, which are let in
    under other names now.
    """
    change(lake, alike, hash=F.lit(None).cast("string"))
    is_away = F.col("state").isin("forgotten", "gone")
    change(
        lake,
        uris,
        modified_at=F.lit(None).cast("timestamp"),
        hash=F.lit(None).cast("string"),
        forgotten=F.lit(None).cast("array<string>"),
        state=F.when(is_away, "parsed").otherwise(F.col("state")),
    )


def change(lake: Lake, uris: list[str], **columns: Column) -> None:
    rows = keys_named(lake.tables.spark, "uri", uris).among(lake.tables.read(FILES), "uri")
    apply(lake.tables, FILES, rows.withColumns({**columns, "action": F.lit(UPDATE)}))


def outcomes(lake: Lake, uris: list[str]) -> list[Retried]:
    """What `files` says of these files now."""
    keys = keys_named(lake.tables.spark, "uri", uris)
    rows = {row["uri"]: row for row in keys.among(lake.tables.read(FILES), "uri").collect()}
    return [told(uri, rows[uri].asDict(recursive=True)) if uri in rows else Retried(uri, "gone") for uri in uris]


def told(uri: str, row: dict) -> Retried:
    if not (reason := row["reason"]):
        return Retried(uri, row["state"], row["documents"])
    words = f"{reason['error_class']}: {reason['message']}"
    return Retried(uri, row["state"], row["documents"], words, reason["attempts"])
