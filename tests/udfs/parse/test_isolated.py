import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import pytest
from lakevec.udfs.parse.document import UnsupportedFormat
from lakevec.udfs.parse.isolated import IsolatedParser, ParserFailedError

POISON = """
    import ctypes
    import os
    from lakevec.udfs.parse.document import Document, UnsupportedFormat

    kept = []

    def parse(data, name):
        if data == b"crash":
            os._exit(3)
        if data == b"segfault":
            ctypes.string_at(0)
        if data == b"loop":
            while True:
                pass
        if data == b"hunger":
            return bytearray(2_000_000_000)
        if data == b"leak":
            kept.append(bytearray(300_000_000))
        if data == b"big":
            bytearray(400_000_000)
        if data == b"bug":
            raise KeyError("style")
        if data == b"unsupported":
            raise UnsupportedFormat("no such thing")
        if data == b"print":
            print("to nobody")
            os.write(1, b"nor this")
        if data == bytes(8_000_000):
            return []
        if data == b"long":
            return [Document("x" * 100_000_001, "text/plain")]
        if data == b"many":
            text = "x" * 80_000_001
            return [Document(text, "text/plain")] * 5
        if data == b"pid":
            return [Document(str(os.getpid()), "text/plain")]
        return [Document(data.decode(), "text/plain", title=name)]
"""


@pytest.fixture
def poison(tmp_path, monkeypatch) -> str:
    """The function to name: it does what a file's bytes say."""
    (tmp_path / "poison.py").write_text(textwrap.dedent(POISON))
    monkeypatch.syspath_prepend(tmp_path)
    return "poison:parse"


@pytest.fixture
def parser(poison):
    parser = IsolatedParser(timeout_seconds=60, memory_mb=256, function=poison)
    yield parser
    parser.close()


def works(parser: IsolatedParser) -> bool:
    return [(document.text, document.title) for document in parser.parse(b"fine", "a.txt")] == [("fine", "a.txt")]


@pytest.mark.parametrize(("data", "how"), [(b"crash", "exit status 3"), (b"segfault", f"signal {signal.SIGSEGV:d}")])
def test_a_crash_costs_its_document_alone(parser, data, how):
    assert works(parser)
    with pytest.raises(ParserFailedError, match=how) as raised:
        parser.parse(data, "a.pdf")
    assert raised.value.error_class == "ParserCrashed"
    assert works(parser)


def test_an_endless_loop_ends_at_the_time_limit_and_costs_its_document_alone(poison):
    parser = IsolatedParser(timeout_seconds=0.2, memory_mb=256, function=poison)
    with pytest.raises(ParserFailedError, match=r"0\.2 s; parse\.timeout_seconds") as raised:
        parser.parse(b"loop", "a.pdf")
    parser.timeout_seconds = 60
    assert raised.value.error_class == "ParserTimeout"
    assert works(parser)
    parser.close()


def test_hunger_ends_at_the_memory_limit_and_costs_its_document_alone(parser):
    with pytest.raises(ParserFailedError, match=r"256 MB of memory; parse\.memory_mb") as raised:
        parser.parse(b"hunger", "a.pdf")
    assert raised.value.error_class == "ParserOutOfMemory"
    assert works(parser)


def test_what_earlier_documents_left_in_memory_is_not_held_against_the_next(parser):
    parser.parse(b"leak", "a.pdf")
    assert [document.text for document in parser.parse(b"big", "b.pdf")] == ["big"]


def test_an_exception_that_a_parser_lets_through_names_its_class_and_keeps_the_child(parser):
    [before] = parser.parse(b"pid", "a")
    with pytest.raises(ParserFailedError, match="style") as raised:
        parser.parse(b"bug", "a.docx")
    assert raised.value.error_class == "KeyError"
    assert parser.parse(b"pid", "a") == [before]


def test_a_parsers_own_refusal_comes_through_as_it_is(parser):
    with pytest.raises(UnsupportedFormat, match="no such thing"):
        parser.parse(b"unsupported", "a.xyz")


def test_what_a_parser_prints_is_no_reply(parser):
    assert [document.text for document in parser.parse(b"print", "a")] == ["print"]


def test_a_text_of_50_mb_goes_through_and_comes_back(parser):
    [document] = parser.parse(b"x" * 50_000_000, "a.txt")
    assert len(document.text) == 50_000_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"long", "a text of 100,000,001 characters; 100,000,000 is the most for one document"),
        (b"many", "texts of 400,000,005 characters; 400,000,000 is the most for one file"),
    ],
)
def test_texts_too_long_to_hand_on_cost_their_file_alone(parser, data, message):
    with pytest.raises(ParserFailedError, match=message) as raised:
        parser.parse(data, "a.txt")
    assert raised.value.error_class == "TextTooLong"
    assert works(parser)


def test_a_files_bytes_are_not_copied_on_their_way(parser):
    assert works(parser)
    data = bytes(8_000_000)
    tracemalloc.start()
    try:
        parser.parse(data, "a.txt")
        assert tracemalloc.get_traced_memory()[1] < len(data)
    finally:
        tracemalloc.stop()


def test_a_child_that_cannot_start_is_no_documents_fault():
    with pytest.raises(RuntimeError, match="did not start"):
        IsolatedParser(60, 256, "no_such_module:parse").parse(b"fine", "a.txt")


def test_the_child_ends_with_a_parent_that_is_killed_in_the_middle_of_a_document(poison, tmp_path):
    program = f"""
        import os, threading
        from lakevec.udfs.parse.isolated import IsolatedParser
        parser = IsolatedParser(600, 256, "{poison}")
        print(parser.parse(b"pid", "a")[0].text, flush=True)
        threading.Thread(target=parser.parse, args=(b"loop", "a"), daemon=True).start()
        threading.Event().wait()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Ended, and not yet collected by whoever took it over.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
