from lakevec.jobs.tuning.conclusion import titled


def test_a_title_names_the_query_sets_whose_recall_is_shown():
    assert titled("docs", 9000, {"sampled": 1000}) == "docs, 9,000 rows, 1,000 sampled passages"
    assert titled("docs", 9000, {"sampled": 1000, "questions": 49}) == "docs, 9,000 rows, 1,000 sampled passages"
    assert titled("docs", 200, {"sampled": 20, "questions": 50}) == "docs, 200 rows, 50 questions"
    both = titled("docs", 9000, {"sampled": 1000, "questions": 185})
    assert both == "docs, 9,000 rows, 1,000 sampled passages or 185 questions, the worse"
