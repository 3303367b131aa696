"""Doing what a load decided: build, patch, and let go what is not in a range any more."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from .fill import build_ranges, patch_ranges, upsert_arrivals, wait_until_seen
from .generations import made_row
from .lake.history import PartitionRow
from .leaving import leaving_keys
from .mirror import Mirror
from .progress import Advance
from .tally import Loaded, loaded_rows
from .vectors import partitions
from .vectors.partitions import Generation
from .vectors.patch import delete
from .vectors.plan import RangeAction, waves
from .vectors.routes import KNOWN_SECONDS, Routes, publish


@dataclass
class Work:
    """What this load has done so far. present: rows that Milvus had. last: highest generation ever, by
    range. replaced: generations that no route of `routes` names any more, and that are still there."""

    routes: Routes
    present: Mapping[str, int]
    last: dict[str, int]
    made: list[PartitionRow] = field(default_factory=list)
    replaced: list[Generation] = field(default_factory=list)
    done: Loaded = field(default_factory=Loaded)

    def next_generations(self, ranges: Iterable[str]) -> dict[str, Generation]:
        made = {name: Generation(name, self.last.get(name, 0) + 1) for name in ranges}
        self.last |= {name: generation.generation for name, generation in made.items()}
        return made

    def route(self, generations: Mapping[str, Generation]) -> None:
        """Let these be live at the next `switch`."""
        self.replaced += [each for each in self.routes.live if each.range in generations]
        numbers = {name: each.generation for name, each in generations.items()}
        self.routes = replace(self.routes, generations={**self.routes.generations, **numbers})

    def drop(self, ranges: Collection[str]) -> None:
        self.replaced += [each for each in self.routes.live if each.range in ranges]
        kept = {name: number for name, number in self.routes.generations.items() if name not in ranges}
        self.routes = replace(self.routes, generations=kept)


def carry_out(mirror: Mirror, work: Work, actions: list[RangeAction], advance: Advance) -> None:
    """Do what was decided, in waves that the server has room for.

    A passage that moves is written to its new range before the old one is switched or loses it.
    """
    begun = time.monotonic()
    patched = [action for action in actions if action.way == "patch"]
    dropped = [action.range for action in actions if action.way == "drop"]
    new = [action.range for action in patched if action.range not in work.routes.generations]
    to_build = {action.range: mirror.desired[action.range] for action in actions if action.way == "build"}
    # `_default` is one of the server's partitions.
    free = mirror.limit - 1 - len(work.routes.generations) - len(new)
    if dropped and free < partitions_needed(to_build, work.routes.generations):
        # There is no other way to room for the rest.
        work.drop(dropped)
        switch(mirror, work)
        free += len(dropped)
    first, *later = waves(to_build, work.routes.generations, free, mirror.settings.load.wave_rows) or [[]]

    generations = work.next_generations([*first, *new])
    tasks = build_ranges(mirror, {name: generations[name] for name in first}, advance)
    partitions.create(mirror.client, mirror.collection, [generations[name] for name in new])
    partitions.load(mirror.client, mirror.collection, [generations[name] for name in new])
    live = {each.range: each for each in work.routes.live}
    patch_ranges(mirror, patched, live | generations, advance)
    upsert_arrivals(mirror, [name for wave in later for name in wave], live)
    go_live(mirror, work, generations, tasks, begun)
    for names in later:
        switch(mirror, work)
        begun = time.monotonic()
        generations = work.next_generations(names)
        go_live(mirror, work, generations, build_ranges(mirror, generations, advance), begun)
    work.drop(dropped)

    let_go(mirror, work, [action for action in patched if action.range not in new])
    work.done.built += to_build
    work.done.patched += [action.range for action in patched]
    work.done.loaded += sum(loaded_rows(mirror, work.present, action) for action in actions)


def partitions_needed(to_build: Collection[str], live: Collection[str]) -> int:
    """How many more there must be room for: each new range's, and one to build the others in."""
    new = sum(name not in live for name in to_build)
    return new + (len(to_build) > new)


def go_live(
    mirror: Mirror,
    work: Work,
    generations: Mapping[str, Generation],
    tasks: Mapping[Generation, list[int]],
    begun: float,
) -> None:
    """Let new generations, which were begun at `begun`, be live at the next switch, once all their rows are seen."""
    wait_until_seen(mirror, {generation: mirror.desired[name] for name, generation in generations.items()})
    seconds = round(time.monotonic() - begun, 3)
    work.made += [
        made_row(mirror, work.routes.index, generation, tasks.get(generation), seconds)
        for generation in generations.values()
    ]
    work.route(generations)


def switch(mirror: Mirror, work: Work) -> None:
    publish(mirror.client, mirror.settings.milvus.collection, work.routes)
    drop_replaced(mirror, work)


def drop_replaced(mirror: Mirror, work: Work) -> None:
    """Drop what the published routes do not name any more, once no reader is within it."""
    if work.replaced:
        time.sleep(partitions.DRAIN_SECONDS)
        partitions.retire(mirror.client, mirror.collection, work.replaced)
        work.replaced = []


def let_go(mirror: Mirror, work: Work, actions: list[RangeAction]) -> None:
    """Delete from live generations what is not in their ranges any more."""
    uncounted = {action.range for action in actions if action.whole} - mirror.deletes.keys()
    is_published = not work.made
    for name, keys in leaving_keys(mirror, work.routes, work.present, actions):
        if not is_published:
            # Moved passages must be found in their new range, by all readers, before they leave the old one.
            publish(mirror.client, mirror.settings.milvus.collection, work.routes)
            time.sleep(KNOWN_SECONDS)
            is_published = True
        delete(mirror.client, mirror.collection, work.routes.partition(name), keys)
        if name in uncounted:
            work.done.removed += len(keys)
