"""A run that dies before or after one of its effects, in this process: the JVM and Milvus live on.

The effects are caught where libraries are called, so that it does not matter how the code that calls
them is cut. After its death a run has no effect any more, also not in `finally`.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from delta.tables import DeltaMergeBuilder
from lakevec.jobs.vectors.build import Staging
from lakevec.jobs.vectors.patience import PatientClient
from pymilvus import utility
from pyspark.sql import DataFrameWriter
from pyspark.sql.streaming import DataStreamWriter
from pyspark.sql.streaming.query import StreamingQuery

# In words -> where it is caught: in the class itself that is used, for a method that it has of its own hides its
# base's. A batch's end is before its checkpoint's commit, a stream's after it.
EFFECTS: dict[str, tuple[Any, str]] = {
    "merge into Delta": (DeltaMergeBuilder, "execute"),
    "append to Delta": (DataFrameWriter, "save"),
    "upsert": (PatientClient, "upsert"),
    "delete": (PatientClient, "delete"),
    "creation of a collection": (PatientClient, "create_collection"),
    "creation of an index": (PatientClient, "create_index"),
    "creation of an alias": (PatientClient, "create_alias"),
    "move of an alias": (PatientClient, "alter_alias"),
    "drop of a collection": (PatientClient, "drop_collection"),
    "creation of a partition": (PatientClient, "create_partition"),
    "load of partitions": (PatientClient, "load_partitions"),
    "release of partitions": (PatientClient, "release_partitions"),
    "drop of a partition": (PatientClient, "drop_partition"),
    "submission of an import": (utility, "do_bulk_insert"),
    "clearing of the staging folder": (Staging, "clear"),
}
BATCH, STREAM = "batch of a stream", "stream"
# How many of a kind a run has at most that are worth their own death; of the others two.
MOST = {"append to Delta": 5, "merge into Delta": 6, BATCH: 3, STREAM: 3}
# Every place that a run can die at, by name and number: by number alone few would be deep in a run.
PLACES = [(name, number) for name in (*EFFECTS, BATCH, STREAM) for number in range(1, MOST.get(name, 2) + 1)]


class Killed(BaseException):
    """What a SIGKILL leaves nothing of; here it must get past every `except Exception`."""


@dataclass
class Kill:
    """One death. call: at which of the run's effects, from 1; at: of those of this name alone. effect: which one that
    was; "" where it never came."""

    call: int
    after: bool
    at: str | None = None
    effect: str = ""
    calls: int = 0

    @property
    def happened(self) -> bool:
        return bool(self.effect)

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} its {self.call}. {self.at or 'effect'}"

    def around(self, effect: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if self.happened:
            raise Killed
        is_counted = self.at in (None, effect)
        self.calls += is_counted
        is_it = is_counted and self.calls == self.call
        # A stream is not left while its micro-batch is at work.
        if is_it and not self.after and effect != STREAM:
            self.effect = effect
            raise Killed
        result = work(*arguments, **named)
        if is_it or self.happened:
            self.effect = self.effect or effect
            raise Killed
        return result


@contextmanager
def killing(kill: Kill) -> Iterator[None]:
    """What runs within dies as `kill` says, if it comes so far; `Killed` ends here."""
    with ExitStack() as stack:
        for effect, (owner, name) in EFFECTS.items():
            stack.enter_context(patch.object(owner, name, caught(kill, effect, getattr(owner, name))))
        foreach, await_end = DataStreamWriter.foreachBatch, StreamingQuery.awaitTermination

        def foreach_batch(writer: Any, handle: Callable[..., None]) -> Any:
            def call(*arguments: Any) -> None:
                try:
                    kill.around(BATCH, handle, *arguments)
                except Killed as error:
                    # Of anything but an Exception the JVM would never hear.
                    raise RuntimeError("killed") from error

            return foreach(writer, call)

        def await_termination(query: StreamingQuery, timeout: int | None = None) -> Any:
            try:
                return kill.around(STREAM, await_end, query, timeout)
            except Exception as error:
                raise (Killed if kill.happened else error) from error

        stack.enter_context(patch.object(DataStreamWriter, "foreachBatch", foreach_batch))
        stack.enter_context(patch.object(StreamingQuery, "awaitTermination", await_termination))
        with suppress(Killed):
            yield


def caught(kill: Kill, effect: str, work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)
    def call(*arguments: Any, **named: Any) -> Any:
        return kill.around(effect, work, *arguments, **named)

    return call
