"""What must be there: a small model of the source, of what runs saw of it, and of the passages that follow."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .written import Content, Passage, Unreadable


@dataclass(frozen=True)
class File:
    content: Content
    modified: int


@dataclass(frozen=True)
class Known:
    """What the lake may know of one file. content: None where the next listing reads it in any case.
    held: the version whose passages it holds."""

    content: Content | None = None
    held: File | None = None


NOTHING = Known()


def after_ingest(known: Known, file: File | None) -> Known:
    """What a whole ingest makes of a file: the promise, in four lines."""
    if file is None:
        return NOTHING
    if isinstance(file.content, Unreadable):
        # The last good version stays.
        return Known(None, known.held)
    # The same bytes touched change nothing, so a date that was taken from the file's time stays.
    return known if known.content == file.content else Known(file.content, file)


@dataclass
class Expected:
    """files: of the source, by uri. states: everything that the lake may know of a uri. After whole
    runs that is one thing; a run that was killed may or may not have come so far."""

    files: dict[str, File] = field(default_factory=dict)
    states: dict[str, frozenset[Known]] = field(default_factory=dict)

    def of(self, uri: str) -> frozenset[Known]:
        return self.states.get(uri, frozenset({NOTHING}))

    @property
    def is_emptied(self) -> bool:
        """Whether no file may be left of those that the lake knows; such a source is not believed by itself."""
        return not any(uri in self.files and NOTHING not in known for uri, known in self.states.items())

    def ingested(self) -> None:
        for uri in self.files.keys() | self.states.keys():
            self.states[uri] = frozenset(after_ingest(known, self.files.get(uri)) for known in self.of(uri))

    def ingested_perhaps(self) -> None:
        for uri in self.files.keys() | self.states.keys():
            before = self.of(uri)
            done = frozenset(after_ingest(known, self.files.get(uri)) for known in before)
            # The documents, but not that they are: they are read again.
            half = frozenset(Known(None, known.held) for known in before | done)
            self.states[uri] = before | done | half

    def versions(self) -> Mapping[str, set[frozenset[Passage]]]:
        """uri -> the sets of passages of which exactly one must be there."""
        return {
            uri: {passages(uri, known.held) for known in states}
            for uri, states in self.states.items()
            if any(known.held for known in states)
        }


def passages(uri: str, held: File | None) -> frozenset[Passage]:
    if held is None or isinstance(held.content, Unreadable):
        return frozenset()
    return held.content.passages(uri, held.modified)


def differences(expected: Expected, found: list[Passage]) -> list[str]:
    """What is wrong, in words; empty where nothing is. found: what Milvus holds, doubled rows doubly."""
    by_uri: dict[str, list[Passage]] = {}
    for passage in found:
        by_uri.setdefault(passage.uri, []).append(passage)
    versions = expected.versions()
    wrong = []
    for uri in sorted(by_uri.keys() | versions.keys()):
        there, allowed = by_uri.get(uri, []), versions.get(uri, {frozenset()})
        if len(there) == len(set(there)) and frozenset(there) in allowed:
            continue
        nearest = min(allowed, key=lambda each: len(each ^ set(there)))
        wrong += [f"doubled: {passage}" for passage in set(there) if there.count(passage) > 1]
        wrong += [f"missing: {passage}" for passage in nearest - set(there)]
        wrong += [f"extra: {passage}" for passage in set(there) - nearest]
    return wrong
