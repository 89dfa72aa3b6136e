# Everything a developer or an operator types. It needs python3 (3.11 or newer) and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What runs the service, and what tests it too: a first film does not wait for the tests' packages.
RUNS := $(VENV)/.runs
TESTS := $(VENV)/.installed
# The packages of Node whose clients the tests run.
NODE := tests/contracts/node
# LiteLLM, whose pins contradict those of the tests: a folder of packages that its own processes put before the others.
LITELLM := $(VENV)/litellm
# Helm, promtool and the schemas of Kubernetes, which check the chart and the alerts.
CHARTS := $(VENV)/charts
# Bytecode is written when a module is first imported; compiling every module of PyTorch ahead would take longer than the rest.
PIP := $(BIN)/python -m pip install --no-compile --disable-pip-version-check
# Where a shell forbids it, each worker would compile PyTorch and diffusers anew at its start, for twenty seconds.
unexport PYTHONDONTWRITEBYTECODE
# `make setup TORCH_INDEX=<url>` takes PyTorch from that package index, for example one that carries CPU builds
# (the default build from the standard index brings CUDA and is several gigabytes larger).
TORCH_INDEX ?=
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
PYTEST := $(BIN)/python -m pytest
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.PHONY: help setup demo up test browser proxies clients charts coverage test-deep test-images storm load check bench bench-marks bench-gpu fmt examples showcase screenshots clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(TESTS) ## Make .venv and install everything, pinned (TORCH_INDEX=<url> takes PyTorch from there)

$(RUNS): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cinemeter needs Python 3.11 or newer; set PYTHON=python3.12, for example.")'
	@echo "Installing what the service needs into $(VENV), which takes a minute or more …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) "$(TORCH)")
	$(PIP) --quiet -c constraints.txt -e '.[worker,embedded,tracing]'
	@touch $@

$(TESTS): $(RUNS)
	@echo "Installing what the tests need …"
	$(PIP) --quiet -c constraints.txt -e '.[worker,embedded,tracing,pictures,test]'
	@touch $@

demo: $(RUNS) ## Render a three-shot storyboard on this machine: quote, progress, receipt, film
	$(BIN)/cinemeter demo

up: $(RUNS) ## Start the whole service here and stay up; prints the studio's URL and keys
	$(BIN)/cinemeter up

test: $(TESTS) browser proxies clients charts ## Run every test but the deep ones
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder

# The tests of the pages need a real browser: Debian's, since Playwright's own is not downloaded.
browser:
	@command -v chromium >/dev/null || { \
	  command -v apt-get >/dev/null || { echo "The tests of the pages need Chromium, and there is no apt here to install it: put a 'chromium' on the PATH."; exit 1; }; \
	  echo "Installing Chromium for the tests of the pages"; \
	  $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

# Operators run them before PostgreSQL and the API; there are no wheels of them. Debian's are not on the PATH of all users.
proxies:
	@for name in pgbouncer haproxy; do \
	  PATH="$$PATH:/usr/sbin" command -v $$name >/dev/null || { \
	    command -v apt-get >/dev/null || { echo "The tests of proxies need a '$$name' on the PATH, and there is no apt here to install it."; exit 1; }; \
	    echo "Installing $$name for the tests of proxies"; \
	    $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends $$name >/dev/null; }; \
	done

# Clients are tested as they are published. Where there is no Node, or LiteLLM cannot be installed, their tests are left
# out and say so.
clients: $(LITELLM)/.installed
	@if command -v node >/dev/null && command -v npm >/dev/null; then $(MAKE) --no-print-directory $(NODE)/node_modules/.installed; \
	else echo "The tests of Node's clients are left out: they need Node.js 20 or newer, with npm, on the PATH."; fi

$(NODE)/node_modules/.installed: $(NODE)/package-lock.json
	@echo "Installing the clients of Node that the tests run …"
	@cd $(NODE) && if timeout 900 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; then touch node_modules/.installed; \
	else echo "The clients of Node could not be installed, so their tests are left out."; fi

$(LITELLM)/.installed: tests/contracts/litellm/packages.txt | $(TESTS)
	@echo "Installing LiteLLM, beside the packages of the tests …"
	@rm -rf $(LITELLM)
	@if timeout 900 $(PIP) --quiet --no-deps --target $(LITELLM) -r $<; then touch $@; \
	else rm -rf $(LITELLM); echo "LiteLLM could not be installed, so its tests are left out."; fi

# Where they cannot be had, the tests of the chart or of the alerts are left out and say so.
charts: $(CHARTS)/.installed

$(CHARTS)/.installed: tests/deploy/chart_tools.txt tests/deploy/install_chart_tools.py | $(TESTS)
	@echo "Installing Helm, promtool and the schemas of Kubernetes, which check the chart and the alerts …"
	@rm -rf $(CHARTS) && mkdir -p $(CHARTS)
	@if timeout 900 $(BIN)/python tests/deploy/install_chart_tools.py $(CHARTS); then touch $@; \
	else rm -rf $(CHARTS); echo "They could not be installed, so the tests of the chart are left out."; fi

coverage: $(TESTS) browser proxies clients charts ## Run every test but the deep ones and print the lines that none of them reaches
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder --cov=app --cov=pricing --cov=workers --cov-report=term:skip-covered

test-deep: $(TESTS) browser proxies clients charts ## Run the storms, fuzzing and long runs
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m deep

test-images: $(TESTS) ## Build the images, run deploy/compose.yaml on Docker's engine, and follow the runbook there (as root; FOLDER=<for images>)
	$(BIN)/python -m tests.images $(if $(FOLDER),--folder $(FOLDER)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

storm: $(TESTS) ## Let FAULTS (1000) faults hit a whole service, and print how it recovered from each kind (SEED=1)
	CINEMETER_STORM_FAULTS=$(or $(FAULTS),1000) CINEMETER_STORM_SEED=$(or $(SEED),1) $(PYTEST) -q -m deep tests/faults/test_storm.py

load: $(TESTS) ## Send orders, polls and cancels to a whole service and kill its workers (MINUTES=5 RATE=2 SEED=1), or with JOBS=100000 run a day by a virtual clock
	$(BIN)/python -m tests.load $(if $(JOBS),virtual --jobs $(JOBS) --gpus $(or $(GPUS),100),live --minutes $(or $(MINUTES),5) --rate $(or $(RATE),2)) --seed $(or $(SEED),1)

check: $(TESTS) ## Formatting, lint, types, import direction, documents that must match the code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.repo.documents --check

bench: $(TESTS) ## Measure throughput and overheads on this machine
	$(BIN)/python -m tests.bench

bench-marks: $(TESTS) ## Measure what the watermark survives, and that it is found nowhere else (20 minutes)
	$(BIN)/python -m tests.bench.marks

bench-gpu: $(TESTS) ## Measure the engine on a CUDA GPU beside stock diffusers (STEPS=20)
	$(BIN)/python -m tests.bench.gpu --steps $(or $(STEPS),20)

fmt: $(TESTS) ## Format the code and rewrite the generated tables of deploy/
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tests.repo.documents

examples: $(TESTS) ## Record the examples of the OpenAPI document from the tests of the API
	$(PYTEST) -q -p tests.repo.examples tests/app/api tests/contracts

showcase: $(TESTS) ## Render the films that a fresh landing page shows
	$(BIN)/python -m tests.repo.showcase

screenshots: $(TESTS) browser ## Take the README's pictures of the pages; with ALL=<folder> every page in both languages, light, dark and on a phone
	$(BIN)/python -m tests.repo.screenshots $(ALL)

clean: ## Remove the environment and caches; films and the home folder stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
