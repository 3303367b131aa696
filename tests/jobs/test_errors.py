import pytest
from lakevec.jobs.errors import cause_of

IN_WORKER = """
  An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "worker.py", line 3, in main
    process()
    ~~~~~~~^^
OSError: [Errno 28] No space left on device
"""
IN_HANDLER = f"""[STREAM_FAILED] Query [id = 1] failed: An exception was raised by the Python Proxy. \
Return Message: Traceback (most recent call last):
  File "clientserver.py", line 617, in _call_proxy
    return_value = getattr(self.pool[obj_id], method)(*params)
pyspark.errors.exceptions.captured.PythonException: {IN_WORKER}
JVM stacktrace:
org.apache.spark.SparkException: [TASK_WRITE_FAILED] Task failed while writing rows
	at org.apache.spark.Task.run(Task.scala:1)
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "worker.py", line 3, in main
OSError: [Errno 28] No space left on device

	at org.apache.spark.api.python.BasePythonRunner.handle(PythonRunner.scala:1)
"""
IN_JAVA = """[STREAM_FAILED] Query [id = 1] failed
	at org.apache
Caused by: org.apache.spark.SparkException: Job aborted
	at x
Caused by: java.io.IOException: No space left
	at x
"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (IN_WORKER, "OSError: [Errno 28] No space left on device"),
        (IN_HANDLER, "OSError: [Errno 28] No space left on device"),
        (IN_JAVA, "java.io.IOException: No space left"),
        ("\n  no such table\nmore", "no such table"),
        ("", "it gave no reason"),
    ],
)
def test_of_a_failure_its_last_cause_is_told_without_a_stack(text, cause):
    assert cause_of(text) == cause
