import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.forget import forget
from lakevec.jobs.lake.tables import FILES
from lakevec.jobs.progress import Progress
from lakevec.jobs.retry import Retried, retry
from pyspark.sql import functions as F

BROKEN = b"%PDF-1.7 nothing more"


@pytest.mark.slow
def test_quarantined_files_are_read_again_when_they_change_or_are_asked_for(lakehouse):
    def again(path=None):
        return retry(lakehouse.settings, path, Progress(terminal=False))

    mended = lakehouse.write("notes/mended.txt", "The parser had a bug; now it reads of harbours.")
    broken = lakehouse.write("notes/broken.pdf", BROKEN)
    lakehouse.write("changed.pdf", BROKEN, modified=1_700_000_000)
    lakehouse.run(("ingest",))
    # As when its parser could not read it.
    why = F.struct(F.lit("parse"), F.lit("ParserFailed"), F.lit("a bug"), F.lit(3), F.current_timestamp())
    lakehouse.lake().tables.delta(FILES).update(
        F.col("uri") == str(mended),
        {"state": F.lit("quarantined"), "hash": F.lit(None), "documents": F.lit(0), "reason": why},
    )
    assert lakehouse.run(("ingest",)).stages["ingest"]["changes"] == 0

    with pytest.raises(ConfigurationError, match=r"--path \*.docx matches none of the 3 quarantined files"):
        again("*.docx")
    report = again("notes/*")

    assert [file.uri for file in report.files] == [str(broken), str(mended)]
    assert (report.files[0].state, report.files[0].attempts) == ("quarantined", 2)
    assert report.files[1] == Retried(str(mended), "parsed", 1)
    assert report.run.loaded == lakehouse.assert_mirrored() == 1

    lakehouse.write("changed.pdf", BROKEN, modified=1_700_000_001)
    assert lakehouse.run(("ingest",)).quarantined == 1
    assert lakehouse.lake().tables.quarantine().where("attempts = 2").count() == 2
    broken.unlink()
    (lakehouse.source / "changed.pdf").unlink()
    assert {file.state for file in again().files} == {"gone"}
    assert again().files == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_forgotten_file_comes_back_though_a_copy_of_it_was_forgotten_later(lakehouse):
    for name in ("first.txt", "last.txt"):
        lakehouse.write(name, "The harbour opens at six.")
    lakehouse.run(("ingest",))
    for name in ("first.txt", "last.txt"):
        forget(lakehouse.settings, name, Progress(terminal=False))

    report = retry(lakehouse.settings, "first.txt", Progress(terminal=False), forgotten=True)

    assert report.files == [Retried(str(lakehouse.source / "first.txt"), "parsed", 1)]
    assert lakehouse.run().documents == 0
    assert sorted(lakehouse.rows(FILES, "state")) == [("forgotten",), ("parsed",)]
    assert lakehouse.assert_mirrored() == 1
