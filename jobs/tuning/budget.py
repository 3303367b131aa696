"""Which build comes next: all in their order, or, within a budget of time, by successive halving.

Halving: every index type is given one build, the quickest first; the better half of the types is given
one more each, and so on. So a few minutes see every kind of index, the rest goes to the promising, and
what is left after these to the others.
"""

import time
from collections.abc import Callable, Sequence

from .grid import Setting, Skipped

# How good a type's best setting is, greater being better.
Score = tuple[float, ...]


class Turns:
    """What to build next, and why the rest was not."""

    def __init__(
        self,
        builds: Sequence[Setting],
        seconds_of: Callable[[Setting], float],
        minutes: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """seconds_of: what a build and its searches are believed to take, asked anew each time."""
        self.builds, self.seconds_of, self.clock, self.minutes = builds, seconds_of, clock, minutes
        self.deadline = None if minutes is None else clock() + 60 * minutes
        self.waiting: dict[str, list[Setting]] = {}
        for build in builds:
            self.waiting.setdefault(build.type, []).append(build)
        self.scores: dict[str, Score] = {}
        self.round: list[str] = sorted(self.waiting, key=lambda kind: seconds_of(self.waiting[kind][0]))
        self.last = list(self.round)
        self.untried: list[Skipped] = []

    def next(self) -> Setting | None:
        if self.deadline is None:
            return next((queue.pop(0) for queue in self.waiting.values() if queue), None)
        while True:
            while self.round:
                kind = self.round.pop(0)
                while self.waiting[kind]:
                    build = self.waiting[kind].pop(0)
                    needed, left = self.seconds_of(build), self.deadline - self.clock()
                    if needed <= left:
                        return build
                    self.leave(build, f"it would take about {needed:,.0f} s, and {max(0, left):,.0f} s were left")
            if not self.halve():
                return None

    def told(self, build: Setting, score: Score) -> None:
        """How good the best of a build's searches was."""
        self.scores[build.type] = max(score, self.scores.get(build.type, score))

    def halve(self) -> bool:
        """Begin another round with the better half of the last one's types; whether there is one.

        When these have nothing left, it is the turn of all others again: what fits is not left out.
        """
        waiting = [kind for kind, queue in self.waiting.items() if queue]
        among = [kind for kind in self.last if kind in waiting] or waiting
        # A type of which nothing could be measured comes last.
        ranked = sorted(among, key=lambda kind: self.scores.get(kind, ()), reverse=True)
        self.last = ranked[: -(-len(ranked) // 2)]
        self.round = list(self.last)
        return bool(self.round)

    def leave_all(self, why: str) -> None:
        """There are no more turns."""
        for queue in self.waiting.values():
            self.untried += [Skipped(build.type, build.build, {}, f"not tried: {why}") for build in queue]
            queue.clear()

    def leave(self, build: Setting, why: str) -> None:
        self.untried.append(Skipped(build.type, build.build, {}, f"not tried within {self.minutes:g} minutes: {why}"))
