"""How a stage's stream is run: one micro-batch handler, its own errors kept through Spark's."""

from collections.abc import Callable

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame

from ..errors import LakevecError

Handler = Callable[[DataFrame, int], None]


def run_once(stream: DataFrame, checkpoint: str, handle: Handler) -> None:
    """Work off all that is there, then return.

    An exception of the handler comes out as it was raised: Spark would hand on its text alone.
    """
    raised: list[Exception] = []

    def guarded(batch: DataFrame, number: int) -> None:
        try:
            handle(batch, number)
        except Exception as error:
            raised.append(error)
            raise

    query = (
        stream.writeStream.foreachBatch(guarded)
        .option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    try:
        query.awaitTermination()
    except StreamingQueryException as error:
        if raised:
            raise raised[0] from error
        raise LakevecError(f"The stream over {checkpoint} failed: {error}") from error
    finally:
        if query.isActive:
            query.stop()
