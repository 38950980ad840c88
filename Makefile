# Everything that is done with this project more than once. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
BIN := .venv/bin
LOCK = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --quiet

.PHONY: help setup jars demo test lint fmt bench faults fuzz lock clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed jars .venv/warm ## Everything that the rest needs: .venv, Kafka's jars, compiled code

.venv/locked: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

.venv/installed: pyproject.toml .venv/locked
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Into a folder of the user's cache, shared by every checkout; a folder that PARCELS_KAFKA_LIBS names is not touched.
jars: .venv/installed
	@test -n "$${PARCELS_KAFKA_LIBS:-}" || deploy/kafka/fetch \
		"$$($(BIN)/python -c 'from streams.kafka.local_broker import jars_folder; print(jars_folder())')"

# Compiled code is cached outside the tree, per version of the code; this only saves the first worker the wait.
.venv/warm: .venv/installed $(shell find streams/domain streams/kernel -name "*.py") streams/processors/warm_up.py
	$(BIN)/python -m streams.processors.warm_up
	touch $@

demo: setup ## A broker, a day of a small hub, a worker and a live board, in two minutes
	$(BIN)/parcels demo

test: lint ## Lint, types, rooms and the whole test suite, with a real broker
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## ruff, mypy --strict and the rooms of CONTRIBUTING.md
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## Format the code and fix what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## This worker beside Kafka Streams on this machine; writes bench/results/ and the table in README.md
	$(BIN)/python -m bench

faults: setup ## The long form of the kill tests: workers and broker, exactly once
	$(BIN)/python -m pytest -m faults tests/faults

fuzz: setup ## Strangers' bytes against every parser of the gateway, and against its description, for some minutes
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest tests/capture/test_fuzz.py
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-500} $(BIN)/python -m pytest tests/capture/http/test_openapi.py

lock: ## Take the newest versions that pyproject.toml allows into requirements.lock and deploy/requirements.lock
	@command -v uv > /dev/null || { echo 'uv is needed: pip install uv'; exit 1; }
	$(LOCK) --upgrade --extra dev -o requirements.lock
	$(LOCK) --constraint requirements.lock -o deploy/requirements.lock

clean: ## Remove what was made here; the caches in ~/.cache/parcel-streams stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build bench/peers/target
	find streams tests bench -name __pycache__ -prune -exec rm -rf {} +
