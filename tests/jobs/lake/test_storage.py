from pathlib import Path

import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.lake.storage import local_path, storage
from pyarrow import fs


@pytest.mark.parametrize("path", ["/data/lake/_checkpoints", "file:///data/lake/_checkpoints"])
def test_a_folder_is_a_folder(path):
    system, within = storage(path)
    assert (isinstance(system, fs.LocalFileSystem), within) == (True, "/data/lake/_checkpoints")


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n"])
def test_hadoops_names_of_a_bucket_are_understood(scheme):
    system, within = storage(f"{scheme}://bucket/lake?region=eu-west-1")
    assert (system.type_name, within) == ("s3", "bucket/lake")


def test_a_place_that_nobody_knows_is_an_error_of_lake_path():
    with pytest.raises(ConfigurationError, match=r"^lake\.path is no place that can be read: nowhere://bucket/lake"):
        storage("nowhere://bucket/lake")


def test_only_folders_are_on_this_machine():
    found = [local_path(path) for path in ("/lake", "file:///lake", "file:/lake", "s3a://b/lake", "dbfs:/lake")]
    assert found == [Path("/lake")] * 3 + [None] * 2
