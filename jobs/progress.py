"""What a person sees while it works: a bar on a terminal, structured lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from .credentials import without_credentials

Advance = Callable[[int], None]


def shown(_logger: Any, _method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A line's facts, without the secrets of addresses: reasons are others' words."""
    return {key: without_credentials(value) if isinstance(value, str) else value for key, value in facts.items()}


def structured_lines(stream=sys.stderr) -> None:
    """Log as lines of key=value pairs, with time and level, to `stream`."""
    structlog.configure(
        processors=[
            shown,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )


class Progress:
    """Tells how far the long work is: rows, rate and time left."""

    def __init__(self, terminal: bool | None = None):
        self.console = Console(stderr=True)
        self.terminal = self.console.is_terminal if terminal is None else terminal
        if not self.terminal:
            structured_lines()
        self.logger = structlog.get_logger()

    def log(self, event: str, **facts: object) -> None:
        """One event with its facts; the secrets of addresses in them are left out."""
        if self.terminal:
            facts_shown = shown(None, event, facts).items()
            self.console.print(f"[dim]{event}[/dim] " + " ".join(f"{key}={value}" for key, value in facts_shown))
        else:
            self.logger.info(event, **facts)

    @contextmanager
    def task(self, stage: str, unit: str, total: int) -> Iterator[Advance]:
        """A piece of work of `total` units; the function that it yields is told of units done."""
        if not total:
            yield lambda _: None
        elif self.terminal:
            yield from self.bar(stage, unit, total)
        else:
            yield from self.lines(stage, unit, total)

    def bar(self, stage: str, unit: str, total: int) -> Iterator[Advance]:
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn(f"{stage:<7}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        begun = time.monotonic()
        with Bars(*columns, console=self.console) as bars:
            task = bars.add_task(stage, total=total, rate="", left="")
            done = 0

            def advance(units: int) -> None:
                nonlocal done
                done += units
                rate = done / max(time.monotonic() - begun, 1e-9)
                left = f"{timedelta(seconds=round((total - done) / rate))} left" if done < total and rate else ""
                bars.update(task, completed=done, rate=f"{rate:.1f} {unit}/s", left=left)

            yield advance

    def lines(self, stage: str, unit: str, total: int) -> Iterator[Advance]:
        begun = time.monotonic()
        done = 0

        def advance(units: int) -> None:
            nonlocal done
            done += units
            rate = done / max(time.monotonic() - begun, 1e-9)
            # Before anything is done, nobody knows.
            left = {"seconds_left": round((total - done) / rate)} if rate else {}
            self.log(f"{stage}.progress", done=done, total=total, unit=unit, per_second=round(rate, 1), **left)

        yield advance
