"""The server that PyPI's `milvus` carries: its unpacked binaries and the configuration we give it."""

import fcntl
import importlib.util
import lzma
import os
import shutil
import socket
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import yaml

from ..errors import ConfigurationError

COMPONENTS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")

# A shell that becomes the server when it reads a line: `[*COMMAND, folder of the binaries]`. The library
# path is set in the shell, since macOS takes it away from processes that start one of its own programs.
COMMAND = (
    "/bin/sh",
    "-c",
    'read -r go || exit 1; export LD_LIBRARY_PATH="$0" DYLD_LIBRARY_PATH="$0"; '
    'exec "$0/milvus" run standalone </dev/null',
)


LISTENERS = (*COMPONENTS, "proxy internal", "metrics", "etcd client", "etcd peer")

Ports = dict[str, int]


def free_ports(preferred: Ports | None = None) -> Ports:
    """A port for each of LISTENERS that nobody listens on at this moment; somebody may a moment later.

    preferred: those of the server's last run, taken where they are free. A server that comes back at
    its old addresses takes over from itself; at others it waits until the sessions of its former life
    run out.
    """
    with ExitStack() as held:
        return {
            name: held.enter_context(listener((preferred or {}).get(name, 0))).getsockname()[1] for name in LISTENERS
        }


def listener(preferred: int) -> socket.socket:
    """A socket that listens as the server will, on all addresses of IPv4 and of IPv6: at the preferred
    port, or at one that the system picks where somebody has it, be it at one address.
    """
    both = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", preferred), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
    except OSError:
        if not preferred:
            raise
        return listener(0)


def unpacked_server() -> Path:
    """The folder with the server's executable `milvus` and its libraries, about 250 MB.

    It is unpacked from the installed package into the user's cache once, which takes some seconds.
    Raises ConfigurationError where the package is not installed: it exists for Linux on x86_64 and
    for macOS.
    """
    spec = importlib.util.find_spec("milvus")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "milvus.uri is standalone, but the package `milvus`, which carries the server, is not installed "
            "(there is none for this platform, or it was left out). Set milvus.uri to a server's address, such as "
            "http://localhost:19530, or to a path ending in .db for Milvus Lite."
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakevec"
    unpacked = cache / f"milvus-{metadata.version('milvus')}"
    if unpacked.is_dir():
        return unpacked
    cache.mkdir(parents=True, exist_ok=True)
    with open(f"{unpacked}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.is_dir():
            unpack(Path(spec.origin).parent / "data" / "bin", unpacked)
    return unpacked


def unpack(packed: Path, unpacked: Path) -> None:
    """Decompress every .lzma file; the folder has its final name only when it is complete."""
    partial = Path(f"{unpacked}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for file in packed.glob("*.lzma"):
        target = partial / file.stem
        with lzma.open(file) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        target.chmod(0o755)
    partial.rename(unpacked)


def write_configuration(folder: Path, ports: Ports) -> None:
    """Write configs/milvus.yaml and configs/etcd.yaml, by which all data lies under `folder`/data."""
    configs = folder / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    (configs / "milvus.yaml").write_text(yaml.safe_dump(milvus_configuration(folder / "data", ports)))
    # The server ends without a word where this one is missing.
    (configs / "glog.conf").write_text("--logtostderr=true\n--minloglevel=2\n")
    (configs / "etcd.yaml").write_text(yaml.safe_dump(etcd_configuration(folder / "data", ports)))


def server_environment(folder: Path, ports: Ports) -> dict[str, str]:
    return {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(ports["metrics"]),
        "ETCD_CONFIG_PATH": str(folder / "configs" / "etcd.yaml"),
    }


def milvus_configuration(data: Path, ports: Ports) -> dict:
    """What differs from the server's defaults.

    `ip` is where the components look for one another; the server listens on all interfaces whatever
    is set.
    """
    components: dict[str, dict] = {name: {"ip": "127.0.0.1", "port": ports[name]} for name in COMPONENTS}
    components["proxy"] |= {"internalPort": ports["proxy internal"]}
    # A server that lives for a command only must still get round to deleting what was dropped, and `forget`
    # waits for that.
    components["dataCoord"] |= {"gc": {"interval": 20, "dropTolerance": 30}}
    return components | {
        "etcd": {
            "endpoints": f"127.0.0.1:{ports['etcd client']}",
            "use": {"embed": True},
            "data": {"dir": str(data / "etcd")},
            "log": {"level": "error"},
        },
        "localStorage": {"path": str(data / "storage")},
        "mq": {"type": "rocksmq"},
        "rocksmq": {"path": str(data / "rocksmq")},
        # What was loaded answers again when the sessions of the former life have run out: with the default of
        # 30 s it took 36 s after a restart, so 15. Shorter ones may be lost on a busy machine, and with them the
        # server.
        "common": {"storageType": "local", "gracefulStopTimeout": 3, "session": {"ttl": 10}},
        # Every index has a few collections, and this is one machine's own server: the default of 64 is for many
        # strangers on one.
        "quotaAndLimits": {"limits": {"maxCollectionNum": 65536, "maxCollectionNumPerDB": 65536}},
        "log": {"level": "warn", "stdout": True, "file": {"rootPath": ""}},
        "grpc": {"log": {"level": "ERROR"}},
    }


def etcd_configuration(data: Path, ports: Ports) -> dict:
    """The embedded etcd reads its addresses from its own file only; without it, it takes 2379 and 2380."""
    client, peer = f"http://127.0.0.1:{ports['etcd client']}", f"http://127.0.0.1:{ports['etcd peer']}"
    return {
        "name": "default",
        "data-dir": str(data / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "log-level": "error",
        # Every load writes here. What was written over is never read again, and at the quota, by default 2 GB,
        # etcd takes no more writes for good.
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": "1000",
        "quota-backend-bytes": 8 << 30,
    }
