import pytest
from lakevec.jobs.vectors.connection import connect
from lakevec.jobs.vectors.patience import PatientClient

from .kills import EFFECTS, Kill, killing


@pytest.mark.parametrize("effect", [name for name, (owner, _) in EFFECTS.items() if owner is PatientClient])
def test_a_run_dies_at_each_request_of_the_client_that_jobs_have(milvus, effect):
    client, kill = connect(milvus), Kill(1, after=False)
    with killing(kill):
        getattr(client, EFFECTS[effect][1])()
    assert kill.effect == effect
