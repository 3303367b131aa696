"""Keys of rows: BLAKE2b digests of 128 bits, as 32 hex digits."""

from hashlib import blake2b


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
