"""`lakevec retry`: quarantined files again, without waiting for them to change."""

import fnmatch
from dataclasses import dataclass

from pyspark.sql import functions as F

from .errors import ConfigurationError
from .lake.changes import UPDATE, apply, keys_named
from .lake.lake import Lake, open_lake
from .lake.lock import STAGES, locked
from .lake.session import spark_session
from .lake.source import source_root, uri_prefix
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


def retry(settings: Settings, path: str | None, progress: Progress) -> RetryReport:
    """Read quarantined files again, all or those that `path` matches, and follow up in all stages.

    path: a glob, as in source.include, or a file's uri. A forgotten file comes back if it is named
    by its whole path or uri; no glob brings one back. Raises ConfigurationError where nothing matches,
    LakeBusyError where another command writes.
    """
    root = source_root(required(settings.source.path, "source.path"))
    with locked(settings, "retry"):
        lake = open_lake(spark_session(settings.spark), settings, held=STAGES)
        return retry_locked(lake, settings, root, path, progress)


def retry_locked(lake: Lake, settings: Settings, root: str, path: str | None, progress: Progress) -> RetryReport:
    files = lake.tables.read(FILES)
    erased = F.col("state").eqNullSafe("forgotten") | (F.size(F.coalesce("forgotten", F.array())) > 0)
    quarantined, forgotten = [
        [row["uri"] for row in files.where(which).select("uri").orderBy("uri").collect()]
        for which in (F.col("state") == "quarantined", erased)
    ]
    again = [uri for uri in quarantined if path is None or matches(uri, root, path)]
    restored = [uri for uri in forgotten if path in (uri, within(uri, root))]
    if path is not None and not again and not restored:
        raise ConfigurationError(
            f"--path {path} matches none of the {len(quarantined):,} quarantined files; nothing was done. `lakevec "
            "status` lists them; the glob is compared with a file's path within source.path. A forgotten file must "
            "be named by its whole path."
        )
    if not again and not restored:
        return RetryReport([])
    mark(lake, again, restored)
    progress.log("retry.marked", quarantined=len(again), forgotten=len(restored))
    report = run_once(settings, progress=progress, is_locked=True)
    return RetryReport(outcomes(lake, sorted({*again, *restored})), report)


def within(uri: str, root: str) -> str:
    """A file's path within the source."""
    return uri.removeprefix(f"{uri_prefix(root)}/")


def matches(uri: str, root: str, path: str) -> bool:
    return path in (uri, within(uri, root)) or fnmatch.fnmatchcase(within(uri, root), path)


def mark(lake: Lake, quarantined: list[str], forgotten: list[str]) -> None:
    """Let the next listing find that these files differ from what is known of them.

    Quarantined ones keep their reason, so that their attempts count on. Of forgotten ones it is no longer known
    what was forgotten; their rows stay, for the documents of theirs that are there.
    """
    is_restored = F.col("uri").isin(forgotten)
    rows = (
        keys_named(lake.tables.spark, "uri", {*quarantined, *forgotten})
        .among(lake.tables.read(FILES), "uri")
        .withColumns(
            {
                "modified_at": F.lit(None).cast("timestamp"),
                "hash": F.when(~is_restored, F.col("hash")),
                "forgotten": F.when(~is_restored, F.col("forgotten")),
                "state": F.when(is_restored & F.col("state").isin("forgotten", "gone"), "parsed").otherwise(
                    F.col("state")
                ),
                "action": F.lit(UPDATE),
            }
        )
    )
    apply(lake.tables, FILES, rows)


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
