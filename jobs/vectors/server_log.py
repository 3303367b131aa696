"""The packaged server's write-ahead log, which keeps every row that was sent for as long as the server likes.

It holds messages for days, and looks for old ones only when it has run for ten minutes: a server that
lives for a command never does. Once all segments are written out nothing needs the log; without
one, the server goes on from its segments (measured: rows, deletions and loads are as before).
"""

import fcntl
import shutil
from dataclasses import replace
from pathlib import Path

from ..errors import LakevecError
from .connection import MilvusAddress, connect
from .routes import ROUTES_NAME
from .server import START_SECONDS, end, exclusively, locked, ready_server, running, serving, write_record

FOLDERS = ("rocksmq", "rocksmq_meta_kv")


def discard_log(folder: Path) -> bool:
    """Write everything out, end the server, remove its log; start it again if it was asked to stay.

    False, and nothing is removed, where another command uses the server: it is not ended under its user. Raises
    LakevecError where something cannot be removed.
    """
    with serving(folder) as state:
        client = connect(MilvusAddress(str(state.uri)))
        for name in client.list_collections():  # pyright: ignore[reportGeneralTypeIssues]
            # These are empty always.
            if not ROUTES_NAME.search(name):
                client.flush(name)
        client.close()
    with exclusively(folder), open(folder / "users.lock", "w") as users:
        if not locked(users, fcntl.LOCK_EX):
            return False
        record = running(folder)
        end(folder)
        try:
            for log in (folder / "data" / name for name in FOLDERS):
                if log.exists():
                    shutil.rmtree(log)
        except OSError as error:
            raise LakevecError(
                f"The Milvus server's write-ahead log below {folder} cannot be removed: {error}. It still holds what "
                "was forgotten: mend that, and run forget again."
            ) from error
        finally:
            if record:
                write_record(folder, replace(ready_server(folder, START_SECONDS), stays=record.stays))
    return True
