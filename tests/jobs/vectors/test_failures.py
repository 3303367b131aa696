import pytest
from lakevec.jobs.errors import MilvusError
from lakevec.jobs.vectors.connection import MilvusAddress
from lakevec.jobs.vectors.failures import failures_told
from pymilvus import MilvusClient, MilvusException

# Port 9 discards; nobody listens there.
NOBODY = MilvusAddress("http://127.0.0.1:9")


def test_a_connection_that_is_lost_in_the_middle_is_told_as_one_that_never_was():
    with pytest.raises(MilvusError, match=r"No connection to Milvus .* Is it running"), failures_told(NOBODY):
        MilvusClient(NOBODY.uri, timeout=1)


def test_what_milvus_refuses_is_told_with_its_cause():
    with pytest.raises(MilvusError, match=r"failed: .*no such field.* Run again"), failures_told(NOBODY):
        raise MilvusException(1100, "no such field")
