# What a person runs. Everything is set up on the way; `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
SOURCE ?=
NAME :=
BIN := .venv/bin
# Set, as images often have it, each process would compile pyspark, pandas and torch anew: ten seconds and more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The uv that is there, or one that pip installs for this user; sets $$uv.
define FIND_UV
if command -v uv >/dev/null; then uv=uv; \
elif $(PYTHON) -m uv --version >/dev/null 2>&1 \
  || $(PYTHON) -m pip install --quiet --user uv 2>/dev/null \
  || $(PYTHON) -m pip install --quiet --user --break-system-packages uv; then uv="$(PYTHON) -m uv"; \
else echo "lakevec is set up by uv; there is none, and $(PYTHON) -m pip could not install it. Install uv as its" \
  "documentation says, or give Python its pip (Debian and Ubuntu: apt install python3-pip), then run make again."; exit 1; fi
endef

.venv/complete: requirements.lock pyproject.toml | python
	@$(FIND_UV); \
	  $$uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
	  $$uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock && \
	  $$uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.PHONY: setup
setup: java python .venv/complete ## uv, the locked environment, Spark's JARs
	@$(BIN)/python -c 'from lakevec.jobs.lake.session import spark_session; from lakevec.jobs.settings import load_settings; \
	  from lakevec.jobs.lake.jars import delta_jars, ivy_folder; delta_jars(ivy_folder()) or spark_session(load_settings().spark).stop()'

.PHONY: java
java:
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; \
	  said=$$("$$java" -version 2>&1) || said=; \
	  version=$$(sed -nE 's/.*version "([0-9]+).*/\1/p' <<<"$$said" | head -n 1); \
	  test "$${version:-0}" -ge 17 || { \
	    echo "Spark needs Java 17 or newer, and $$java $${version:+is version }$${version:-does not run}. Install a Java 17" \
	      "runtime (Debian and Ubuntu: apt install openjdk-17-jre-headless; macOS: brew install openjdk@17) and put it on" \
	      "the PATH or name its folder in JAVA_HOME."; exit 1; }

.PHONY: python
python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "lakevec needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there)." \
	    "Name another one, as in: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12"; exit 1; }

# One lake for each source, so that a demo of one folder never meets another's.
DEMO_SOURCE = $(or $(SOURCE),.lakevec/sample)
DEMO_LAKE = .lakevec/demo-$(firstword $(shell echo '$(DEMO_SOURCE)' | cksum))
LAKEVEC = @$(BIN)/lakevec --set lake.path=$(DEMO_LAKE) --set "source.path=$(DEMO_SOURCE)"
ifeq ($(SOURCE),)
FIRST = How many days of leave may I carry over into next year?
SECOND = Why did the brake levers snap?
THIRD = What was decided about the new order system?
else
FIRST = What was decided, and by whom?
SECOND = What does it cost?
THIRD = What are the risks?
endif

.PHONY: demo
demo: setup ## index the sample, or SOURCE=/some/folder, and ask it three questions
	@test -n "$(SOURCE)" || $(BIN)/python notebooks/sample.py .lakevec/sample
	$(LAKEVEC) server start
	@trap '$(BIN)/lakevec --set lake.path=$(DEMO_LAKE) server stop' EXIT; set -e; \
	  lakevec="$(BIN)/lakevec --set lake.path=$(DEMO_LAKE)"; \
	  $$lakevec --set "source.path=$(DEMO_SOURCE)" run --once; \
	  for question in "$(FIRST)" "$(SECOND)"; do printf '\n? %s\n\n' "$$question"; $$lakevec search -k 3 "$$question"; done; \
	  printf '\n? %s (2024 and 2025)\n\n' "$(THIRD)"; $$lakevec search -k 3 "$(THIRD)" --since 2024-01-01 --until 2026-01-01

.PHONY: test
test: setup ## the tests, against a real Milvus server
	$(BIN)/python -m pytest

.PHONY: test-slow
test-slow: setup ## what takes too long for every commit
	$(BIN)/python -m pytest -m slow

# Of random sequences of changes, losses and kills: how many, and the seed to repeat them by.
SEQUENCES ?= 200
SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')

.PHONY: test-sequences
test-sequences: setup ## SEQUENCES=200 random ones of changes, losses and kills, by SEED
	@echo "$(SEQUENCES) sequences, SEED=$(SEED)"
	SEQUENCES=$(SEQUENCES) $(BIN)/python -m pytest -m sequences -q --show-capture=no --hypothesis-seed=$(SEED) tests/sequences

.PHONY: test-faults
test-faults: setup ## kill processes, stop servers, fill disks (root, or sudo): nothing may be lost or doubled
	$(BIN)/python -m pytest -m faults -q tests/faults

.PHONY: bench
bench: setup ## measure speed against named peers: all of tests/bench, or one by its NAME
	$(BIN)/python -m pytest -m bench -q tests/bench$(NAME:%=/test_%.py)

.PHONY: check
check: .venv/complete ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.PHONY: lock
lock: python ## resolve the dependencies anew into requirements.lock
	@$(FIND_UV); $$uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --all-extras --group dev pyproject.toml -o requirements.lock
