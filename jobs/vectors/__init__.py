"""Everything that is said to Milvus."""

import logging
import os
import warnings

# gRPC must not act when Spark's JVM is forked off: in 1 of 4 starts beside a busy client its handlers
# ended the child ("Java gateway process exited"). Read at import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# Its import sets its own level: what is set before does not hold.
import pymilvus  # noqa: F401

# pymilvus logs each failed call with its stack, also those that are expected and tried again. What matters
# is raised, and told once by whoever catches it.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
# The version is pinned below the one that drops the ORM half, which bulk import needs.
warnings.filterwarnings("ignore", message=".*is an ORM-style PyMilvus API")
