# Everything a developer or an operator types. It needs python3 (3.11 or newer) and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# `make setup TORCH_INDEX=<url>` takes PyTorch from that package index, for example one that carries CPU builds
# (the default build from the standard index brings CUDA and is several gigabytes larger).
TORCH_INDEX ?=
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
PYTEST := $(BIN)/python -m pytest
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.PHONY: help setup demo up test browser test-deep check bench bench-gpu fmt clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install everything, pinned (TORCH_INDEX=<url> takes PyTorch from there)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cinemeter needs Python 3.11 or newer; set PYTHON=python3.12, for example.")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --no-deps --index-url $(TORCH_INDEX) "$(TORCH)")
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,embedded,tracing,test]'
	touch $@

demo: $(STAMP) ## Render a three-shot storyboard on this machine: quote, progress, receipt, film
	$(BIN)/cinemeter demo

up: $(STAMP) ## Start the whole service here and stay up; prints the studio's address and keys
	$(BIN)/cinemeter up

test: $(STAMP) browser ## Run every test but the deep ones
	$(PYTEST) -n 2 --dist loadfile

# The tests of the pages need a real browser: Debian's, since Playwright's own is not downloaded.
browser:
	@command -v chromium >/dev/null || { \
	  command -v apt-get >/dev/null || { echo "The tests of the pages need Chromium, and there is no apt here to install it: put a 'chromium' on the PATH."; exit 1; }; \
	  echo "Installing Chromium for the tests of the pages"; \
	  $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

test-deep: $(STAMP) ## Run the storms, fuzzing and long runs
	$(PYTEST) -n 2 --dist loadfile -m deep

check: $(STAMP) ## Formatting, lint, types, import direction, documents that must match the code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.house.documents --check

bench: $(STAMP) ## Measure throughput and overheads on this machine
	$(BIN)/python -m tests.bench

bench-gpu: $(STAMP) ## Measure the engine on a CUDA GPU beside stock diffusers (STEPS=20)
	$(BIN)/python -m tests.bench.gpu --steps $(or $(STEPS),20)

fmt: $(STAMP) ## Format the code and rewrite the generated parts of the README
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tests.house.documents

clean: ## Remove the environment and caches; films and the home folder stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
