from lakevec.jobs.tuning.past import deciding_metrics

SAMPLED, QUESTIONS = "recall_at_10", "questions_recall_at_10"


def test_the_sets_that_decided_are_those_with_enough_queries():
    assert deciding_metrics({"queries_sampled": "1000", "queries_questions": "3"}) == [SAMPLED]
    assert deciding_metrics({"queries_sampled": "1000", "queries_questions": "112"}) == [SAMPLED, QUESTIONS]
    left_out = {"queries_sampled": "50", "queries_sampled_left_out": "45", "queries_questions": "112"}
    assert deciding_metrics(left_out) == [QUESTIONS]
    assert deciding_metrics({"queries_sampled": "5", "queries_questions": "3"}) == [SAMPLED, QUESTIONS]
