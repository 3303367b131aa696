import pytest
from lakevec.jobs.errors import LakevecError
from lakevec.jobs.lake import stream
from lakevec.jobs.lake.listing import listings
from lakevec.jobs.lake.stream import has_checkpoint, run_stream, was_cut_off
from tenacity import wait_none


def test_a_stream_ends_and_goes_on_whatever_its_handler_raises_and_its_checkpoint_lost(spark, tmp_path):
    (tmp_path / "source").mkdir()
    checkpoint = tmp_path / "checkpoint"
    # What a stream leaves that dies before its first micro-batch is written down.
    (checkpoint / "offsets").mkdir(parents=True)
    seen: list[int] = []

    def run(raised=None):
        def handle(_, number):
            seen.append(number)
            if raised:
                raise raised

        run_stream(listings(spark, str(tmp_path / "source"), [], []), str(checkpoint), handle)

    assert (has_checkpoint(str(checkpoint)), was_cut_off(str(checkpoint))) == (False, True)
    # Not an Exception: nothing would tell the JVM.
    with pytest.raises(SystemExit):
        run(SystemExit())
    assert (has_checkpoint(str(checkpoint)), was_cut_off(str(checkpoint))) == (True, True)

    run()
    assert seen[:2] == [0, 0]
    assert not was_cut_off(str(checkpoint))

    # Without its checksum, which stays.
    last = seen[-1]
    (checkpoint / "commits" / str(last)).unlink()
    assert was_cut_off(str(checkpoint))
    run()
    assert seen.count(last) == 2
    assert not was_cut_off(str(checkpoint))


def test_a_stream_whose_python_worker_came_too_late_is_begun_again_and_no_other(monkeypatch):
    begun = []
    reasons = iter(
        ["terminated with exception: Python worker failed to connect back. SQLSTATE: XXKST", "no such table"]
    )

    def run(*_):
        begun.append(None)
        raise LakevecError(f"The stream over checkpoint failed: {next(reasons)}")

    monkeypatch.setattr(stream, "run_from_checkpoint", run)
    monkeypatch.setattr(stream, "wait_random_exponential", lambda **_: wait_none())

    with pytest.raises(LakevecError, match="no such table"):
        stream.run_stream(None, "checkpoint", lambda *_: None)
    assert len(begun) == 2
