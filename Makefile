# Thin over pip: each target makes .venv as far as it needs it. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= demo

.DEFAULT_GOAL := help
.PHONY: help demo test coverage bench docs lint types format check clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

# torch comes first and by version: pip then takes the CPU build where one is offered, and nothing later replaces it.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

# SpikingJelly asks for torchvision and torchaudio, of which there is no CPU build; what the tests use does without them.
$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,lint,peers]'
	$(BIN)/pip install --quiet --no-deps spikingjelly==2.0.0
	@touch $@

# These would bring another torch, or drivers, as dependencies that the benchmark does without.
$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/pip install --quiet --no-deps spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(VENV)/installed  ## train a spiking network on spoken digits, and write a report (one to two minutes)
	$(BIN)/rheobase train spoken-digits --name $(RUN)-$$(date +%Y%m%d-%H%M%S)

# Two processes share the tests. A module stays in one of them, since what its tests share is made once: `--dist loadfile`.
PYTEST := pytest --numprocesses 2 --dist loadfile --doctest-modules src tests

test: $(VENV)/installed-dev  ## run all tests (about 9 minutes on 2 cores)
	$(BIN)/python -m $(PYTEST)

# On its own: to watch every line takes half of the time again.
coverage: $(VENV)/installed-dev  ## run all tests and report the lines of src/ that none of them reaches; at least 90 % must be
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: $(VENV)/installed-bench  ## measure speed and memory beside other libraries, and draw it (about half an hour)
	$(BIN)/rheobase bench --json benchmarks/results/bench.json
	$(BIN)/python benchmarks/plot.py benchmarks/results/bench.json

docs: $(VENV)/installed-docs  ## build docs/ into docs/_build; a broken link is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --builder html docs docs/_build

lint: $(VENV)/installed-dev  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev  ## check types
	$(BIN)/pyright

format: $(VENV)/installed-dev  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types docs test  ## all that CI checks

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
