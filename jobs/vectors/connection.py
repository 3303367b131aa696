"""Where Milvus is, and the way in."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import grpc
from pymilvus import MilvusClient, connections
from pymilvus.exceptions import MilvusException

from ..credentials import without_credentials
from ..errors import MilvusError
from ..lake.storage import lake_path
from ..settings import Settings
from .patience import PatientClient, causes
from .server import server_folder, serving, status

CONNECT_SECONDS = 10.0
STANDALONE = "standalone"


@dataclass(frozen=True, repr=False)
class MilvusAddress:
    """A server's address, or the path of a Milvus Lite file, which ends in .db.

    As text it is the address without its secrets: fit for messages and logs.
    """

    uri: str
    token: str | None = None

    def __str__(self) -> str:
        return without_credentials(self.uri)

    def __repr__(self) -> str:
        return f"MilvusAddress({str(self)!r})"

    @property
    def base(self) -> str:
        """scheme://host:port, without secrets and without a database: what REST requests begin with."""
        scheme, separator, rest = str(self).partition("://")
        host = rest.partition("/")[0]
        # A Lite file or a Unix socket has no host.
        return f"{scheme}{separator}{host}" if host else self.uri

    @property
    def database(self) -> str | None:
        """The database that the address names after the port, if it names one."""
        named = self.base != self.uri and urlsplit(str(self)).path.strip("/").partition("/")[0]
        return named or None

    @property
    def credentials(self) -> str | None:
        """user:password or an API key: the token, or what the address itself carries."""
        within = str(self) != self.uri and re.search(r"//(.*)@", self.uri)
        return self.token or (unquote(within[1]) if within else None)

    @property
    def is_lite(self) -> bool:
        return self.uri.endswith(".db")


@contextmanager
def milvus_for(settings: Settings) -> Iterator[MilvusAddress]:
    """The address that `milvus.uri` means, good for as long as the block lasts.

    With `standalone` that is the packaged server of this lake: the one that runs, or one that is
    started here and stopped at the end; only there lake.path must be set.
    """
    if settings.milvus.uri == STANDALONE:
        with serving(server_folder(lake_path(settings))) as server:
            yield MilvusAddress(str(server.uri))
    else:
        token = settings.milvus.token
        yield MilvusAddress(settings.milvus.uri, token.get_secret_value() if token else None)


def has_died(settings: Settings) -> bool:
    """Whether `milvus.uri` means a packaged server that was started and runs no more: nobody but us starts it again."""
    return settings.milvus.uri == STANDALONE and status(server_folder(lake_path(settings))).pid is None


def connect(address: MilvusAddress) -> MilvusClient:
    """A client of the server (or of the Lite file, whose folder is made if it is missing).

    Its idempotent calls outlast a restart of the server (patience.py); this first one does not.
    Clients of one address in one process share a channel. Raises MilvusError that names the address
    and the cause, after about CONNECT_SECONDS at most.
    """
    if address.is_lite:
        make_parent(Path(address.uri).absolute())
    try:
        return PatientClient(
            address.base,
            token=address.credentials or "",
            db_name=address.database or "",
            timeout=CONNECT_SECONDS,
        )
    except Exception as error:
        raise connection_error(address, error) from error


def make_parent(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MilvusError(f"milvus.uri is {file}, but its folder cannot be made: {error}.") from error


def orm_alias(address: MilvusAddress) -> str:
    """The alias under which pymilvus's ORM half (`utility`, `Collection`) reaches the same server.

    It connects at the first call in a process; the later ones only return the alias.
    """
    alias = "lakevec-" + sha256(f"{address.uri} {address.token}".encode()).hexdigest()[:12]
    if not connections.has_connection(alias):
        try:
            connections.connect(
                alias,
                uri=address.base,
                token=address.credentials or "",
                db_name=address.database or "default",
                timeout=CONNECT_SECONDS,
            )
        except Exception as error:
            raise connection_error(address, error) from error
    return alias


def server_version(client: MilvusClient) -> tuple[int, int, int]:
    """Such as (2, 3, 5). Raises MilvusError for what has no such version: Milvus Lite."""
    said = str(client.get_server_version())
    version = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", said)
    if version is None:
        raise MilvusError(f"Milvus says that its version is {said!r}; expected one such as v2.3.5.")
    major, minor, patch = version.groups(default="0")
    return int(major), int(minor), int(patch)


def connection_error(address: MilvusAddress, error: Exception) -> MilvusError:
    """What can be done about it. pymilvus says the same of a wrong token, a wrong host and a stopped server."""
    cause = without_secrets(" <- ".join(cause_in_words(one) for one in causes(error)), address)
    if address.is_lite:
        advice = (
            "Another process has it open, most likely: Milvus Lite serves one process at a time. End that one, "
            "or set milvus.uri to a server's address."
        )
    elif "UNAUTHENTICATED" in cause or "auth check failure" in cause:
        advice = "The server refuses the token: see milvus.token."
    else:
        advice = "Is it running, and are milvus.uri and milvus.token right?"
    return MilvusError(f"No connection to Milvus at {address}. {advice} Cause: {cause}")


def without_secrets(text: str, address: MilvusAddress) -> str:
    text = text.replace(address.uri, str(address))
    for secret in sorted(secrets(address), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def secrets(address: MilvusAddress) -> set[str]:
    """Tokens and passwords, written as they are and as an address writes them."""
    known = {address.token or "", address.credentials or ""}
    known |= {token.partition(":")[2] for token in known}
    return (known | {quote(secret, safe="") for secret in known}) - {""}


def cause_in_words(error: BaseException) -> str:
    if isinstance(error, MilvusException):
        return error.message
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
