"""Keys of rows: BLAKE2b digests of 128 bits, as 32 hex digits."""

from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise


@dataclass(frozen=True)
class KeySlice:
    """The keys with since <= key < until; None: no bound on that side."""

    since: str | None = None
    until: str | None = None


def key_slices(number: int) -> list[KeySlice]:
    """So many slices that hold every key once, about as many digests in each; at least one."""
    number = max(number, 1)
    bounds = [None, *(f"{(place << 32) // number:08x}" for place in range(1, number)), None]
    return [KeySlice(since, until) for since, until in pairwise(bounds)]


def digest(*parts: str) -> str:
    """Hash of some strings, in order. A length stands before each, so that no two lists collide."""
    hashed = blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        hashed.update(len(encoded).to_bytes(8, "big") + encoded)
    return hashed.hexdigest()


def bytes_hash(data: bytes) -> str:
    """Hash of a file's bytes."""
    return blake2b(data, digest_size=16).hexdigest()


def doc_id(uri: str, part: str) -> str:
    """Key of a document: its file, and its part within the file ("" for a whole file)."""
    return digest("document", uri, part)


def content_hash(embedded: str) -> str:
    """Hash of what is embedded: a chunk's prefix and text."""
    return digest("content", embedded)


def chunk_id(doc: str, chunking: str, content: str, occurrence: int) -> str:
    """Key of a chunk. occurrence counts equal passages of one document from 0, in reading order."""
    return digest("chunk", doc, chunking, content, str(occurrence))
