"""What a sweep or a switch that was killed left behind: collections in Milvus, import files in staging."""

# pymilvus declares its clients' results as coroutines too.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from pathlib import Path

from pyarrow import fs
from pymilvus import MilvusClient

from .build import Staging
from .collection import Owner
from .shadow import is_shadow, left_over
from .successor import unrouted


def drop_left_over(client: MilvusClient, alias: str, owner: Owner, staging: Path | str | None) -> list[str]:
    """Drop the shadows, and the successors that neither routes nor alias name, with their folders below `staging`.

    The caller holds the lock `tune`: no sweep and no switch goes on. Gives the names.
    """
    collections = [*left_over(client, alias, owner), *unrouted(client, alias, owner, client.list_collections())]
    for name in collections:
        client.drop_collection(name)
    if staging is None:
        return collections
    system, root = Staging(str(staging)).open()
    there = system.get_file_info(fs.FileSelector(root, allow_not_found=True))
    names = [each.base_name for each in there if each.type == fs.FileType.Directory]
    folders = [name for name in names if is_shadow(name, alias, owner)] + unrouted(client, alias, owner, names)
    for name in folders:
        system.delete_dir(f"{root}/{name}")
    return sorted({*collections, *folders})
