"""GPUs as Spark hands them to tasks."""

from pyspark import TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from .session import is_one_machine, parallel_tasks

GPUS_OF_TASK = "spark.task.resource.gpu.amount"
STANDALONE = ("spark://", "local-cluster")


def asks_for_gpus(spark: SparkSession, tasks: int | None) -> bool:
    """Whether Spark gives GPUs to tasks that embed. tasks: `gpu.tasks`."""
    return bool(spark.conf.get(GPUS_OF_TASK, None)) or profile_of_tasks(spark, tasks) is not None


def tasks_per_gpu(spark: SparkSession, tasks: int | None) -> int:
    """How many tasks share one GPU. tasks: `gpu.tasks`; where it is None, Spark's own settings say it.

    Where Spark schedules no GPUs, all tasks of an executor that embed take the first one that they find.
    """
    if tasks and profile_of_tasks(spark, tasks):
        return tasks
    if amount := spark.conf.get(GPUS_OF_TASK, None):
        return max(int(1 / float(amount)), 1)
    if is_one_machine(spark):
        return embedding_tasks(spark, tasks)
    cores = spark.conf.get("spark.executor.cores", None)
    if cores is None and (spark.conf.get("spark.master", None) or "").startswith(STANDALONE):
        # Executors there have all the cores of their machine; how many, nobody says.
        cores = parallel_tasks(spark)
    return max(int(cores or 1) // int(spark.conf.get("spark.task.cpus", None) or 1), 1)


def embedding_tasks(spark: SparkSession, tasks: int | None) -> int:
    """Into how many tasks texts are cut. tasks: `gpu.tasks`, which on one machine is their number.

    On a cluster as many as it has cores, be its GPUs fewer: tasks that wait have more executors started.
    """
    at_once = parallel_tasks(spark)
    return min(tasks, at_once) if tasks and is_one_machine(spark) else at_once


def profile_of_tasks(spark: SparkSession, tasks: int | None) -> ResourceProfile | None:
    """What a task asks for where `tasks` share one GPU, whatever the other stages' tasks ask for.

    None where the session's own settings hold for all stages: `tasks` is None, or executors have no GPUs.
    """
    if tasks is None or not spark.conf.get("spark.executor.resource.gpu.amount", None):
        return None
    cpus = int(spark.conf.get("spark.task.cpus", None) or 1)
    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(cpus).resource("gpu", 1 / tasks)).build


def device_of_task() -> str | None:
    """The GPU that Spark gave this task, as torch names it; None where GPUs are not scheduled. On executors."""
    context = TaskContext.get()
    gpu = context.resources().get("gpu") if context else None
    return f"cuda:{gpu.addresses[0]}" if gpu else None
