"""What the stages of a continuous run tell one another: how much waits between them, and when to end."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from .lake.lock import STAGES
from .settings import Pipeline

# Until the first are known: so many chunks come of a file.
SUPPOSED_CHUNKS_PER_FILE = 10
# Unless pipeline.max_waiting_chunks says otherwise, so much of embedding may wait before it. An embedding
# micro-batch is about as long, and a new file stands behind one of them at most.
WAITING_SECONDS = 4.0
# Change feeds are looked at so many times as often as the source.
FEED_LOOKS = 4
# Before a rate is measured.
FIRST_ROOM = 100
# So soon a stage looks at the feed that has work for it.
COMES_WITHIN = 2.0
# After so long one stage's work is no reason any more for the others to wait: it may be one file that never ends, one
# document of ten thousand chunks, or a server that is away.
LONGEST_TURN_SECONDS = 30.0
# A source is walked a tenth of the time at most.
WALKS_APART = 10


class Waiting:
    """Work between two stages, in chunks.

    It is announced before it is committed, and what was announced when the next stage began a
    micro-batch is taken for done when that ends. So nothing is ever waited for that is done; a
    micro-batch that began between announcement and commit makes some room too early.
    """

    def __init__(self) -> None:
        self.announced: list[int] = []

    @property
    def total(self) -> int:
        return sum(self.announced)


class Turns:
    """Lets so many stages work at a time, of those that want to the one nearest to Milvus first.

    On two cores four stages at once make each four times as slow, and a new file must go through all four. A turn that
    lasts longer than LONGEST_TURN_SECONDS counts no longer.
    """

    def __init__(self, at_once: int):
        self.at_once = at_once
        self.waiting: list[int] = []
        self.working: dict[int, float] = {}
        self.expected: dict[int, float] = {}
        self.changed = threading.Condition()

    def expect(self, stage: str) -> None:
        """There is work for this stage, and it will want its turn: until then, and for a moment at most, no stage
        that is farther from Milvus gets it."""
        with self.changed:
            self.expected[STAGES.index(stage)] = time.monotonic() + COMES_WITHIN

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        place = STAGES.index(stage)
        with self.changed:
            self.waiting.append(place)
            while not self.is_next(place):
                # An expectation ends without a word, and so does a long turn.
                self.changed.wait(COMES_WITHIN / 4)
            self.waiting.remove(place)
            self.expected.pop(place, None)
            self.working[place] = time.monotonic()
            # Another turn may be free, and the one who waits for it looked while this one stood before it.
            self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                del self.working[place]
                self.changed.notify_all()

    def is_next(self, place: int) -> bool:
        now = time.monotonic()
        coming = {each for each, until in self.expected.items() if until > now}
        # One that works has its turn, and cannot come for another.
        before = coming.difference(self.working).union(self.waiting)
        held = sum(now - since < LONGEST_TURN_SECONDS for since in self.working.values())
        return self.at_once - held > sum(each > place for each in before)


class Flow:
    """Shared by the stages' threads.

    stopping: set when all shall end. embeddings_changed: set when there is something to load. model_in_use: held
    by the job that runs on the workers that have the model. steps: how often each stage got on. outcomes: what each
    has done since it last began.
    is_bounded: ingest, chunk and embed are all part of this run, so that what waits is known. at_once: how many
    stages work at a time.
    """

    def __init__(self, settings: Pipeline, is_bounded: bool = True, at_once: int = len(STAGES)):
        self.settings, self.is_bounded = settings, is_bounded
        self.turns = Turns(at_once)
        self.stopping = threading.Event()
        self.embeddings_changed = threading.Event()
        self.model_in_use = threading.Lock()
        self.documents, self.chunks = Waiting(), Waiting()
        self.changed = threading.Condition()
        self.files_seen, self.chunks_seen = 1, SUPPOSED_CHUNKS_PER_FILE
        self.embedded_per_second: float | None = None
        self.steps: Counter[str] = Counter()
        self.outcomes: dict[str, Any] = {}

    @property
    def most_waiting(self) -> int:
        """Chunks that may wait between the stages."""
        if self.settings.max_waiting_chunks:
            return self.settings.max_waiting_chunks
        rate = self.embedded_per_second
        return max(FIRST_ROOM, int(rate * WAITING_SECONDS)) if rate else FIRST_ROOM

    @property
    def chunks_per_file(self) -> float:
        return max(1.0, self.chunks_seen / self.files_seen)

    @property
    def until(self) -> tuple[threading.Event, float]:
        """For streams of the source that go on (lake/stream.py)."""
        return self.stopping, self.settings.trigger_seconds

    @property
    def until_at_feed(self) -> tuple[threading.Event, float]:
        """For streams of tables: to look at a log costs little, and a file passes by two of them."""
        return self.stopping, self.settings.trigger_seconds / FEED_LOOKS

    def announce(self, waiting: Waiting, chunks: int) -> None:
        # Where the next stage is another process, nobody here is told that it is done.
        if self.is_bounded:
            with self.changed:
                waiting.announced.append(chunks)

    def hand_on(self, stage: str, rows: Mapping[str, int]) -> None:
        """Rows, by what became of them, were committed for this stage, which comes next."""
        if self.is_bounded and any(rows.values()):
            self.turns.expect(stage)

    def begin_anew(self, waiting: Waiting) -> None:
        """A stage begins, perhaps after it failed: what it announced may never have been committed."""
        with self.changed:
            waiting.announced.clear()
            self.changed.notify_all()

    def begun(self, waiting: Waiting) -> int:
        """A micro-batch begins on what waits. Gives what `done` wants to be told."""
        with self.changed:
            return len(waiting.announced)

    def done(self, waiting: Waiting, begun: int) -> None:
        with self.changed:
            del waiting.announced[:begun]
            self.changed.notify_all()

    def got_on(self, stage: str) -> None:
        """The stage committed something that was not there before. To do again what was done before is no way on."""
        self.steps[stage] += 1

    def files_admitted(self, until: float) -> int:
        """How many files may be ingested now. Waits for room; 0 when it is `until`, or the end.

        until: on the clock of time.monotonic(). If there is room, the time does not matter: a listing
        that took long must still bear fruit.
        """
        if not self.is_bounded:
            return 0 if self.stopping.is_set() else sys.maxsize
        with self.changed:
            while not self.stopping.is_set():
                room = self.most_waiting - self.documents.total - self.chunks.total
                # Each micro-batch costs the same few seconds: not one for every file that finds room.
                if room >= self.most_waiting / 2:
                    return max(1, int(room / self.chunks_per_file))
                if time.monotonic() >= until:
                    break
                self.changed.wait(min(until - time.monotonic(), 1.0))
        return 0

    def next_listing(self, began: float, walk_seconds: float) -> float:
        """When the source is listed next. Times on the clock of time.monotonic()."""
        return began + max(self.settings.trigger_seconds, WALKS_APART * walk_seconds)

    def state(self) -> dict[str, float | None]:
        """What waits, where that is known, and how fast it goes, for people."""
        return {
            "waiting_chunks": self.documents.total + self.chunks.total if self.is_bounded else None,
            "embedded_per_second": self.embedded_per_second and round(self.embedded_per_second, 1),
        }

    def rest(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        self.stopping.wait(seconds)

    def stop(self) -> None:
        self.stopping.set()
        self.embeddings_changed.set()
        with self.changed:
            self.changed.notify_all()


def turn(flow: Flow | None, stage: str) -> AbstractContextManager[None]:
    """Wait for the stage's turn to work, and have it for the block; at once where stages come one after the other."""
    return flow.turns.of(stage) if flow else nullcontext()
