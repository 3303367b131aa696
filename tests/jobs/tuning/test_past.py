from types import SimpleNamespace

from lakevec.jobs.tuning.measures import Interval
from lakevec.jobs.tuning.past import candidate_of, deciding_metrics

SAMPLED, QUESTIONS = "recall_at_10", "questions_recall_at_10"


def test_the_sets_that_decided_are_those_with_enough_queries():
    assert deciding_metrics({"queries_sampled": "1000", "queries_questions": "3"}) == ([SAMPLED], False)
    assert deciding_metrics({"queries_sampled": "1000", "queries_questions": "112"}) == ([SAMPLED, QUESTIONS], False)
    left_out = {"queries_sampled": "50", "queries_sampled_left_out": "45", "queries_questions": "112"}
    assert deciding_metrics(left_out) == ([QUESTIONS], False)
    assert deciding_metrics({"queries_sampled": "5", "queries_questions": "3"}) == ([SAMPLED, QUESTIONS], True)
    assert deciding_metrics({"queries_sampled": "49"}) == ([SAMPLED], True)


def test_what_too_few_queries_measured_is_read_as_no_promise():
    metrics = {"recall_at_10": 1.0, "recall_at_10_low": 0.99, "recall_at_10_high": 1.0}
    metrics |= {"latency_p99_ms": 2.0, "qps_8_clients": 900.0, "memory_bytes": 1000.0}
    run = SimpleNamespace(
        data=SimpleNamespace(params={"index_type": "FLAT"}, metrics=metrics), info=SimpleNamespace(run_id="r")
    )
    found = candidate_of(run, *deciding_metrics({"queries_sampled": "49"}))
    assert found.recall == Interval(1.0, 0.99, 1.0, few=True)
