from lakevec.jobs.tuning.choice import Candidate
from lakevec.jobs.tuning.grid import Setting
from lakevec.jobs.tuning.measures import Interval
from lakevec.jobs.tuning.plots import figure


def drawn(recalls, target):
    candidates = [
        Candidate(Setting("HNSW", {}, {"ef": 16 + place}), Interval(recall, recall - 0.01, recall + 0.01), 1, 100, 1)
        for place, recall in enumerate(recalls)
    ]
    made = figure(candidates, candidates[-1], target, "", "", lambda each: each.qps, False)
    [axes] = made.axes
    return axes.get_ylim(), [text.get_text() for text in axes.texts]


def test_what_is_far_below_the_target_is_not_shown_and_that_is_said():
    (lowest, _), texts = drawn([0.4, 0.97], 0.95)
    assert 0.8 < lowest < 0.9
    assert "1 settings with less recall are not shown" in texts


def test_the_chosen_setting_is_shown_however_far_below_the_target_it_is():
    (lowest, _), _ = drawn([0.4, 0.7], 0.95)
    assert lowest < 0.69
