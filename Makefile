PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# A file's tests stay in one process, files in their order: the longest file begins while others are left to run beside it.
PYTEST := $(BIN)/python -m pytest -q --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(VENV)/ready: pyproject.toml
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(VENV)/ready ## Make the virtual environment

demo: setup ## Four simulated hospitals train together, in ./consortium-demo
	$(BIN)/python -P -m consortium demo

test: setup ## Tests (without the long ones), lint and types
	$(PYTEST) -m "not slow"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-all: setup ## Everything, the long tests included
	$(PYTEST)

.PHONY: help setup demo test test-all
