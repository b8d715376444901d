# The goals that people, hooks and CI call. PYTHON and VENV choose another interpreter:
#     make test PYTHON=python3.13 VENV=.venv-3.13
# SHARE is the part of its rounds that each proof runs, FILES are those whose proofs run, by default all:
#     make prove SHARE=0.1 FILES=tests/test_state_machine.py

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
SHARE ?= 1
FILES ?=
BIN := $(VENV)/bin
# The tests wait for a third of their time: for databases, processes and threads.
PROCESSES ?= $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))
# uv takes a quarter of pip's time, and resolves to the lowest versions, which pip cannot.
INSTALL := uv pip install --quiet --compile-bytecode
# With --verifytypes, pyright looks for the package beside the first python of PATH, and ignores --pythonpath.
ON_PATH := PATH="$(abspath $(BIN)):$$PATH"

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
# Goals that run at the same time could install into one virtual environment.
.NOTPARALLEL:
.PHONY: help demo test cover prove lowest wheel check format docs bench bench-peers clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# One stamp for each extra of pyproject.toml, so that make demo does not install the checkers.
$(VENV)/%.stamp: pyproject.toml | $(BIN)/uv
	$(BIN)/$(INSTALL) --python $(BIN)/python --editable '.[$*]'
	@touch $@

$(BIN)/uv: | $(BIN)/python
	$(BIN)/python -m pip install --quiet uv

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

demo: $(VENV)/cli.stamp ## run the main job: survey the standard library
	$(BIN)/python -m railtracks demo

test: $(VENV)/test.stamp ## run the tests, without the long proofs
	$(BIN)/python -m pytest -m "not proof" --numprocesses=$(PROCESSES) --dist=worksteal

# Rounds reach nothing that is not reached without them, and under coverage they are slow.
cover: $(VENV)/test.stamp ## run the tests and the proofs that take no rounds, with branch coverage at 100 %
	RAILTRACKS_PROOF=0 $(BIN)/python -m pytest --cov --numprocesses=$(PROCESSES) --dist=worksteal -o faulthandler_timeout=1800

# With all of their rounds the machine is there for the proofs alone.
prove: $(VENV)/test.stamp ## run the long proofs with all of their rounds
	RAILTRACKS_PROOF=$(SHARE) $(BIN)/python -m pytest $(FILES) -m proof --numprocesses=$(if $(filter 1,$(SHARE)),logical,$(PROCESSES)) --dist=worksteal --durations=0 -o faulthandler_timeout=1800

lowest: $(LOWEST)/test.stamp ## run the tests with the lowest versions of all that the package depends on
	$(LOWEST)/bin/python -m pytest -m "not proof" --numprocesses=$(PROCESSES) --dist=worksteal

# Made anew each time, so that nothing newer is left in it.
$(LOWEST)/test.stamp: pyproject.toml | $(BIN)/uv
	$(PYTHON) -m venv --clear $(LOWEST)
	$(BIN)/$(INSTALL) --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[test]'
	@touch $@

wheel: | $(BIN)/uv ## build the wheel, and try it bare and with each extra alone
	$(BIN)/python tools/wheel.py

check: $(VENV)/check.stamp ## lint, format, types, layers, structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8 railtracks tests tools benchmarks
	$(BIN)/mypy
	$(ON_PATH) pyright
	$(ON_PATH) pyright --verifytypes railtracks --ignoreexternal
	$(BIN)/lint-imports
	$(BIN)/python tools/structure.py

format: $(VENV)/check.stamp ## put the code into shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(VENV)/docs.stamp ## build the documentation into site/, without the network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(VENV)/test.stamp ## measure, beside plain Trio and the peers
	$(BIN)/python -m benchmarks

bench-peers: $(VENV)/test.stamp ## make the peers' virtual environments
	$(BIN)/python -m benchmarks.peers

clean: ## remove what the goals above have made
	rm -rf .venv* .executors .pgbouncer .speedscope .pictures .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .railtracks site
