import pytest
from lakevec.jobs.lake.listing import listings
from lakevec.jobs.lake.stream import has_checkpoint, run_stream, was_cut_off


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
