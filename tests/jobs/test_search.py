import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.search import search
from lakevec.jobs.settings import load_settings


def test_where_nothing_was_ever_indexed_no_server_is_started_to_say_so(tmp_path):
    with pytest.raises(MilvusError, match="Nothing is indexed yet under lakevec"):
        search(load_settings("local", [f"lake.path={tmp_path / 'lake'}", "milvus.uri=standalone"], {}), "anything")
    assert list(tmp_path.iterdir()) == []
