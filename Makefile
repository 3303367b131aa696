# What a person runs. Everything is set up on the way; `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
SOURCE ?=
BIN := .venv/bin

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/complete: requirements.lock pyproject.toml
	@command -v uv >/dev/null || $(PYTHON) -m uv --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet --user uv || $(PYTHON) -m pip install --quiet --user --break-system-packages uv
	@uv=$$(command -v uv || echo "$(PYTHON) -m uv"); \
	  $$uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
	  $$uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock && \
	  $$uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.PHONY: setup
setup: java .venv/complete ## uv, the locked environment, Spark's JARs
	@$(BIN)/python -c 'from lakevec.jobs.lake.session import spark_session; from lakevec.jobs.settings import load_settings; \
	  from lakevec.jobs.lake.jars import delta_jars, ivy_folder; delta_jars(ivy_folder()) or spark_session(load_settings().spark).stop()'

.PHONY: java
java:
	@command -v java >/dev/null || test -x "$$JAVA_HOME/bin/java" || { \
	  echo "Spark needs Java 17, and there is none. Debian and Ubuntu: apt install openjdk-17-jre-headless; macOS: brew install openjdk@17."; exit 1; }

# One lake for each source, so that a demo of one folder never meets another's.
DEMO_SOURCE = $(or $(SOURCE),.lakevec/sample)
DEMO_LAKE = .lakevec/demo-$(firstword $(shell echo '$(DEMO_SOURCE)' | cksum))
LAKEVEC = @$(BIN)/lakevec --set lake.path=$(DEMO_LAKE) --set "source.path=$(DEMO_SOURCE)"
ifeq ($(SOURCE),)
FIRST = How many days of leave may I carry over into next year?
SECOND = Why did the customers send the goods back?
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

.PHONY: bench
bench: setup ## measure speed, as ratios against a named peer
	$(BIN)/python -m pytest -m bench -q tests/bench

.PHONY: check
check: .venv/complete ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.PHONY: lock
lock: ## resolve the dependencies anew into requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --all-extras --group dev pyproject.toml -o requirements.lock
