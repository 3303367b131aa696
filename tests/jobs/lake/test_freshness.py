import numpy as np
import pytest
from lakevec.jobs.lake.freshness import merged, together


def test_many_loads_put_together_keep_their_percentiles():
    chance = np.random.default_rng(7)
    loads = [
        {"documents": 40 * number, "seconds": np.sort(chance.gamma(2.0, 5.0, 40)).tolist()} for number in range(1, 60)
    ]

    one = merged(loads)

    whole, short = together(loads), together([one])
    assert len(one["seconds"]) <= 1000
    assert (short.documents, short.slowest) == (whole.documents, whole.slowest)
    for part in ("p50", "p95", "p99"):
        assert getattr(short, part) == pytest.approx(getattr(whole, part), rel=0.02)
