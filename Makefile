# Each target sets up what it needs: a virtual environment in .venv with timm, torch and this library.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint gpu

demo: .venv/installed  ## train without mixing, with CutMix and with CutMix + SUMix, compare (ARGS="--seed 1")
	$(BIN)/python -m benchmarks.demo $(ARGS)

test: .venv/installed  ## the fast tests (ARGS="-m slow" for others)
	$(BIN)/python -m pytest -n 2 $(ARGS)

# with $(PYTHON) as it is where that has what is needed: it may be on a machine without network
gpu:  ## on a machine with a GPU: its tests and the speed of whole steps, written to benchmarks/results/gpu.json
	@python=$(PYTHON); \
	$$python -c 'import pytest, rich, timm.task, torch' 2>/dev/null || { $(MAKE) .venv/installed; python=$(BIN)/python; }; \
	$$python -m benchmarks.speed --device cuda --amp --out benchmarks/results/gpu.json $(ARGS) && $$python -m pytest -m gpu -q

lint: .venv/installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[bench,test]'
	touch $@
