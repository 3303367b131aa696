import io

import pytest
import structlog
from lakevec.jobs.progress import Progress, structured_lines
from structlog.testing import capture_logs


@pytest.mark.parametrize("terminal", [True, False])
def test_no_line_shows_the_secrets_of_an_address(terminal, capsys):
    lines = io.StringIO()
    try:
        progress = Progress(terminal)
        progress.console.file = lines
        if not terminal:
            structured_lines(lines)
            progress.logger = structlog.get_logger()
        progress.log("load.failed", reason="no answer from http://me:hid/hidden@there", failures=3)
    finally:
        structlog.reset_defaults()
    assert "there" in lines.getvalue()
    assert "failures=3" in lines.getvalue()
    assert "hidden" not in lines.getvalue()


def test_no_time_left_is_told_before_anything_is_done():
    progress = Progress(False)
    with capture_logs() as lines, progress.task("build", "rows", 100) as advance:
        advance(0)
        advance(50)
    assert ["seconds_left" in line for line in lines] == [False, True]
