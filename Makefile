# The tasks of this project. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
BIN := .venv/bin
LOCK = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --quiet

.PHONY: help setup jars demo test lint fmt bench faults fuzz lock clean

help: ## List these tasks
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  Start with "make demo". After that:'
	@echo '    .venv/bin/parcels --help   lists the commands, for example to show a parcel or to load your own records'
	@echo '    docs/architecture.md       explains how the system works'

setup: .venv/installed jars .venv/warm ## Set up what all other tasks need: .venv, Kafka's jars, compiled code

.venv/locked: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

.venv/installed: pyproject.toml .venv/locked
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# In a folder of the user's cache, shared by all checkouts. A folder named by PARCELS_KAFKA_LIBS is left as it is.
jars: .venv/installed
	@test -n "$${PARCELS_KAFKA_LIBS:-}" || deploy/kafka/fetch \
		"$$($(BIN)/python -c 'from streams.kafka.local_broker import jars_folder; print(jars_folder())')"

# Compiled code is cached outside the tree, for each version of the code. Without this the first worker compiles it.
.venv/warm: .venv/installed $(shell find streams/domain streams/kernel -name "*.py") streams/processors/warm_up.py
	$(BIN)/python -m streams.processors.warm_up
	touch $@

demo: setup ## Show the whole system at work: broker, worker, a simulated day and a live board, in two minutes
	$(BIN)/parcels demo

test: lint ## Run lint and the whole test suite, with a real broker
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## Run ruff, mypy --strict and the import contracts of pyproject.toml
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## Format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## Compare this worker with Kafka Streams; writes bench/results/ and the table in README.md
	$(BIN)/python -m bench

faults: setup ## Run the long kill tests: exactly once while workers and brokers are killed
	$(BIN)/python -m pytest -m faults tests/faults

fuzz: setup ## Run the fuzz tests: random input to each parser of the gateway and to its OpenAPI routes, for minutes
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest tests/capture/test_fuzz.py
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-500} $(BIN)/python -m pytest tests/capture/http/test_openapi.py

lock: ## Update requirements.lock and deploy/requirements.lock to the newest versions that pyproject.toml allows
	@command -v uv > /dev/null || { echo 'uv is missing: run pip install uv'; exit 1; }
	$(LOCK) --upgrade --extra dev -o requirements.lock
	$(LOCK) --constraint requirements.lock -o deploy/requirements.lock

clean: ## Remove the build files; the caches in ~/.cache/parcel-streams stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build bench/peers/target
	find streams tests bench -name __pycache__ -prune -exec rm -rf {} +
