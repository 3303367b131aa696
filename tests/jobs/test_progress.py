from lakevec.jobs.progress import Progress
from structlog.testing import capture_logs


def test_no_time_left_is_told_before_anything_is_done():
    progress = Progress(False)
    with capture_logs() as lines, progress.task("build", "rows", 100) as advance:
        advance(0)
        advance(50)
    assert ["seconds_left" in line for line in lines] == [False, True]
