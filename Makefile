# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer.
# JAX comes as its CPU build; README.md says how to install the GPU and TPU builds.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DIR ?= runs/shapes
# `make test TORCH=torch==2.13.0` adds the tests that read and write PyTorch's files.
TORCH ?=

.PHONY: demo test lint docs setup setup-test clean

# Two fifths of the recipe's steps; pictures of some images every fifty, to see it learn.
demo: setup  ## train on generated shapes, evaluate, and draw predictions
	@echo "Pictures of predictions, the first after 50 steps: $(DEMO_DIR)/eval/pictures"
	$(BIN)/python train.py --config=configs/shapes.py --workdir=$(DEMO_DIR) --config.train.steps=600 \
	    --config.train.eval_every=50 --config.data.val.count=24 --config.eval.pictures=4
	$(BIN)/python eval.py --workdir=$(DEMO_DIR) --config.data.val.count=200
	@echo "Pictures of predictions: $(DEMO_DIR)/eval/pictures"

test: setup-test  ## the whole test suite, some 10 minutes on 2 cores
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
		--no-loadscope-reorder $(PYTEST_ARGS)

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)-docs/.installed  ## the documentation, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test

$(VENV)/.installed: requirements.txt requirements-light.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; run make with PYTHON=python3.12, say"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.installed-test: requirements-test.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --requirement requirements-test.txt
	test -z "$(TORCH)" || $(BIN)/python -m pip install --quiet "$(TORCH)" || echo "no $(TORCH): its tests are skipped"
	touch $@

# An environment of its own: the pages are made from the text of the sources, without running them.
$(VENV)-docs/.installed: requirements-docs.txt
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --requirement requirements-docs.txt
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-docs site build .cache .pytest_cache .ruff_cache
