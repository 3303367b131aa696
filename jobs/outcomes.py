"""What became of files that were read and parsed, and how that is written down in `files`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from .differences import LASTING
from .lake.changes import INSERT, UPDATE
from .lake.tables import FILES

# Object stores tell whole seconds, some file systems every second one.
COARSE_TIME = timedelta(seconds=2)
CLOCKS_APART = timedelta(minutes=1)
TICK = timedelta(milliseconds=1)


def replaces(outcome: Mapping[str, Any], unreadable: Literal["keep", "remove"]) -> bool:
    """Whether an outcome's documents, which may be none, take the place of those that are known of its file."""
    if outcome["state"] in ("parsed", "forgotten"):
        return True
    # An error of the disk or the network is not the file's.
    is_its_own = outcome["error_stage"] == "parse" or outcome["error_class"] in LASTING
    return unreadable == "remove" and outcome["state"] == "quarantined" and is_its_own


def later_moments(piece: list[dict[str, Any]], now: datetime) -> dict[str, datetime]:
    """By uri, for files of which something is known from later than now, as after the clock was set back: a moment
    that is later still. doubt.py sees by these times which of two tables was written last."""
    known = {file["uri"]: file["known_seen_at"] for file in piece if file["known_seen_at"]}
    return {uri: seen_at + TICK for uri, seen_at in known.items() if seen_at >= now}


def file_actions(
    outcomes: list[dict[str, Any]],
    replaced: set[str],
    piece: list[dict[str, Any]],
    arrived_after: datetime | None,
    listed_at: datetime | None,
    now: datetime,
    later: Mapping[str, datetime],
) -> list[tuple]:
    """Rows of FILES, each with its action, that write down what became of the files of a piece.

    replaced: the files whose known documents gave way to the outcome's. later: `later_moments`.
    """
    listed = {file["uri"]: file for file in piece}
    rows = []
    for outcome in outcomes:
        # A file that vanished meanwhile is for the next listing.
        if outcome["state"] == "vanished":
            continue
        file = listed[outcome["uri"]]
        is_replaced, is_quarantined = outcome["uri"] in replaced, outcome["state"] == "quarantined"
        kept_since = None if is_replaced else file["known_parsed_at"]
        reason = {
            "stage": outcome["error_stage"],
            "error_class": outcome["error_class"],
            "message": outcome["error_message"],
            "attempts": (file["attempts"] or 0) + 1,
            "at": now,
        }
        row = {
            "uri": outcome["uri"],
            "size": outcome["size"],
            "modified_at": None if may_change_unseen(outcome["modified_at"], listed_at) else outcome["modified_at"],
            # Of bytes that could not be had nothing is known, and those that were had last may be forgotten ones.
            "hash": outcome["hash"] or file["last_hash"],
            "state": "parsed" if outcome["state"] == "touched" else outcome["state"],
            "reason": reason if is_quarantined else None,
            "documents": (outcome["documents"] if is_replaced else file["known_documents"]) or 0,
            "seen_at": later.get(outcome["uri"], now),
            "parsed_at": now if outcome["state"] == "parsed" else kept_since,
            "forgotten": outcome["forgotten"],
            "arrived_at": max(filter(None, (outcome["modified_at"], arrived_after)), default=None),
        }
        action = INSERT if file["change"] == "new" else UPDATE
        rows.append((*(row[name] for name in FILES.schema.names), action))
    return rows


def must_be_seen_again(outcome: Mapping[str, Any], listed_at: datetime | None) -> bool:
    """Whether the next listing must ask what is known of a file that looks as it did."""
    return outcome["state"] == "vanished" or may_change_unseen(outcome["modified_at"], listed_at)


def may_change_unseen(modified_at: datetime | None, listed_at: datetime | None) -> bool:
    """Whether another version of the same size could bear the same time: where times are whole seconds, and this
    one had hardly passed. Such a file is read again by the next listing."""
    if modified_at is None or listed_at is None or modified_at.microsecond:
        return False
    # What lies further ahead than clocks are apart says nothing of when it was written.
    return -CLOCKS_APART < listed_at - modified_at < COARSE_TIME
