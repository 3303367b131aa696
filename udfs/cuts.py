"""Where a text may be cut, best places first."""

from collections.abc import Sequence

import regex

Break = regex.Pattern[str]

PARAGRAPH = regex.compile(r"\n[^\S\n]*\n\s*")
# A sentence ends with its mark and white space, or with a full-width mark; a list item, a table row
# and a quoted line end with their line.
SENTENCE = regex.compile(r"[.!?…]['\"”’)\]]*\s+|[。！？｡]['\"”’」』）]*\s*|\n(?=\s*(?:[-*+|>#•]|\d+[.)]\s))")
LINE = regex.compile(r"\n\s*")
WORD = regex.compile(r"\s+")
# A letter with its marks, a flag, emoji joined to one: one thing for the reader.
CLUSTER = regex.compile(r"\X")
# A cluster is looked at so far beyond the place where it may be cut.
LONGEST_CLUSTER = 64
# Two characters that are never one cluster: most cuts need no closer look.
APART = regex.compile(r"[\n\x20-\x7e\p{Han}\p{Hiragana}\p{Katakana}]{2}")
LONGEST_BREAK = 8


def last_cut(text: str, start: int, low: int, high: int, levels: Sequence[Break]) -> int:
    """The last place in (low, high] that follows a break of the first level that has one there.

    With no break at all, the last place between two clusters; where one cluster fills everything,
    `high` itself. `start` <= low is a place between two clusters.
    """
    for level in levels:
        place = max((match.end() for match in level.finditer(text, low, high)), default=low)
        if place > low:
            return place
    if APART.match(text, high - 1):
        return high
    place = max((end for end in cluster_ends(text, start, high) if end <= high), default=low)
    return place if place > low else high


def first_cut(text: str, start: int, low: int, high: int, levels: Sequence[Break]) -> int:
    """The first place in [low, high) that follows a break of the first level that has one there.

    With no break at all, the first place between two clusters, else `high`. `start` as above.
    """
    for level in levels:
        for match in level.finditer(text, max(start, low - LONGEST_BREAK), high):
            if low <= match.end() < high:
                return match.end()
    if low > start and APART.match(text, low - 1):
        return low
    return next((end for end in cluster_ends(text, start, high) if low <= end < high), high)


def cluster_ends(text: str, start: int, high: int):
    return (match.end() for match in CLUSTER.finditer(text, start, min(high + LONGEST_CLUSTER, len(text))))
