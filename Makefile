# `make help` lists the targets. All commands run in .venv/, which `make setup` builds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MODEL_STAMP := $(VENV)/.installed-model
DEMO_PHOTOS := datasets/demo-photos
DEMO := datasets/demo
TRAIN_DEMO := runs/demo
JOBS ?= 2
ROUNDS ?= 5000
SEED ?= 7
# One thread per process: with few cores, threads of several processes would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup dataset train-demo docs test test-all fuzz lint types bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## build .venv/ with all packages for dataset and test

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

$(MODEL_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev,model]'
	@touch $@

dataset: $(STAMP)  ## make the demo dataset in datasets/demo/; the last output line is the path of its report
	@$(BIN)/python -m examples.demo.server $(DEMO_PHOTOS) -- $(BIN)/hifidata run pipelines/demo.yaml --out $(DEMO)

train-demo: $(MODEL_STAMP)  ## train the tiny preset on the demo dataset, generate and evaluate portraits, and make an overview image (minutes on a CPU)
	@test -f $(DEMO)/dataset.json || $(MAKE) dataset
	@$(BIN)/python -m hifimodel.train --shards '$(DEMO)/shards/**/*.tar' --preset tiny --out $(TRAIN_DEMO)
	@$(BIN)/python -m hifimodel.generate --model $(TRAIN_DEMO) --prompt 'a portrait' --out $(TRAIN_DEMO)/portrait.png \
	  --reference $(DEMO_PHOTOS)/Guest_2/portrait_01.jpg $(DEMO_PHOTOS)/Guest_2/portrait_03.jpg $(DEMO_PHOTOS)/Guest_2/portrait_04.jpg \
	  --target $(DEMO_PHOTOS)/Guest_2/portrait_02.jpg --landmarks-out $(TRAIN_DEMO)/landmarks.png --no-safety-check
	@$(BIN)/python -m hifimodel.evaluate build --shards '$(DEMO)/shards/**/*.tar' --out $(TRAIN_DEMO)/evalset --max-prompts 2 --seeds 1
	@$(BIN)/python -m hifimodel.evaluate run --set $(TRAIN_DEMO)/evalset --model $(TRAIN_DEMO) --out $(TRAIN_DEMO)/pictures -- --no-safety-check
	@$(BIN)/python -m hifimodel.evaluate --set $(TRAIN_DEMO)/evalset --pictures $(TRAIN_DEMO)/pictures --face3d points --recogniser dlib_resnet
	@$(BIN)/python -m examples.demo.overview $(TRAIN_DEMO)

test: $(MODEL_STAMP)  ## run the fast tests, in two processes (JOBS=4: in four)
	$(PYTEST) -m 'not slow'

test-all: $(MODEL_STAMP)  ## run all tests, including the long kill tests
	$(PYTEST)

docs: $(STAMP)  ## write the generated pages: docs/recipes.md and the tables of manifests/README.md
	$(BIN)/python -m docs.reference

fuzz: $(MODEL_STAMP)  ## give each parser thousands of hostile inputs (ROUNDS=20000; SEED=1: other inputs)
	HIFI_FUZZ_ROUNDS=$(ROUNDS) HIFI_FUZZ_SEED=$(SEED) $(PYTEST) tests/fuzz --override-ini timeout=0

lint: $(STAMP)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(MODEL_STAMP)  ## check types
	$(BIN)/mypy hifidata hifimodel

bench: $(MODEL_STAMP)  ## print the benchmark tables (SECTIONS="paper loader": only these; docs/performance.md lists their inputs)
	$(BIN)/python -m benchmarks $(SECTIONS)

clean:  ## remove .venv/ and the demo
	rm -rf $(VENV) $(DEMO_PHOTOS) $(DEMO) $(TRAIN_DEMO)
