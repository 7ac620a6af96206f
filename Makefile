# `make help` lists the targets. Everything runs in .venv/, which `make setup` builds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MODEL_STAMP := $(VENV)/.installed-model
DEMO_PHOTOS := datasets/demo-photos
DEMO := datasets/demo
TRAIN_DEMO := runs/demo

.DEFAULT_GOAL := help
.PHONY: help setup dataset train-demo test test-all lint types bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## build .venv/ with everything that dataset and test need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

$(MODEL_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev,model]'
	@touch $@

dataset: $(STAMP)  ## make the demo dataset in datasets/demo/; the last line printed is its report
	@$(BIN)/python -m hifidata.demo_web $(DEMO_PHOTOS) -- $(BIN)/hifidata run pipelines/demo.yaml --out $(DEMO)

train-demo: $(MODEL_STAMP)  ## train the tiny preset on the demo dataset, into runs/demo/ (a minute on a CPU)
	@test -f $(DEMO)/dataset.json || $(MAKE) dataset
	@$(BIN)/python -m hifimodel.train --shards '$(DEMO)/shards/**/*.tar' --preset tiny --out $(TRAIN_DEMO)

test: $(MODEL_STAMP)  ## run the tests that take seconds
	$(BIN)/python -m pytest -m 'not slow'

test-all: $(MODEL_STAMP)  ## run every test, the long kill tests included
	$(BIN)/python -m pytest

lint: $(STAMP)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(MODEL_STAMP)  ## check types
	$(BIN)/mypy hifidata

bench: $(STAMP)  ## print the tables of ratios (needs test photos, see docs/performance.md)
	$(BIN)/python -m benchmarks

clean:  ## remove .venv/ and the demo
	rm -rf $(VENV) $(DEMO_PHOTOS) $(DEMO) $(TRAIN_DEMO)
