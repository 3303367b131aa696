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
	@$(BIN)/python -m lakevec.jobs.lake.jars

.PHONY: java
java:
	@command -v java >/dev/null || test -x "$$JAVA_HOME/bin/java" || { \
	  echo "Spark needs Java 17, and there is none. Debian and Ubuntu: apt install openjdk-17-jre-headless; macOS: brew install openjdk@17."; exit 1; }

.PHONY: test
test: setup ## the tests, against a real Milvus server
	$(BIN)/python -m pytest

.PHONY: check
check: .venv/complete ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.PHONY: lock
lock: ## resolve the dependencies anew into requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --all-extras --group dev pyproject.toml -o requirements.lock
