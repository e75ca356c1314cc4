# Every job has one door here. `make` alone lists them.

VENV ?= .venv
WORKERS ?= 2
SECONDS ?= 600

# The first Python that is new enough, can make environments, and really runs (a version manager's shim may not).
NEW_ENOUGH = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,\
	$(shell $(name) -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo $(name))))

BIN = $(VENV)/bin
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test check lint slow fuzz sanitize format clean

help: ## list the doors
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## install into .venv, then pull, evaluate, train, prune and plot in small
	$(BIN)/sslprune demo

test: $(VENV)/.dev ## install into .venv, then run the fast tests and the doctests
	$(PYTEST)

check: lint test ## everything a change must pass: format, lint, types, arrows, drift, fast tests

lint: $(VENV)/.dev ## the checks that run no test: format, lint, types, arrows, drift
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_map.py

slow: $(VENV)/.dev ## the slow tests: whole runs, kills and resumes, a built wheel
	$(PYTEST) -m slow --runslow

fuzz: $(VENV)/.fuzz ## fuzz the sparse file's reader for SECONDS (600); what breaks it is left in .cache/fuzz
	mkdir -p .cache/fuzz/seeds
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz/fuzz_sparse_file.py -max_total_time=$(SECONDS) \
		-artifact_prefix=.cache/fuzz/ .cache/fuzz/seeds

sanitize: $(VENV)/.sanitize ## run the kernels under the address, undefined-behaviour and thread sanitizers (minutes)
	PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python tools/sanitize/run.py

format: $(VENV)/.dev ## rewrite the code in the project's format, with the lint's safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv and the tools' caches
	rm -rf .venv build dist .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find sslprune tests tools -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/pip:
	@python='$(PYTHON)'; "$$python" -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo "$${python:-python3}: no Python >= 3.11 that can create environments was found." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make demo PYTHON=/path/to/python3.12" >&2; \
		exit 1; }; \
	"$$python" -m venv $(VENV)

define install
@$(BIN)/python -m pip install -c constraints.txt -e '.[$(1)]' || { \
	echo "pip could not install the dependencies; its reason is above." >&2; \
	echo "Check the network, or name an index that you can reach (PIP_INDEX_URL=https://...), then run make again." >&2; \
	exit 1; }
endef

# Stamps: an environment is installed again only when what it should hold has changed.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/pip
	$(call install,demo)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(call install,dev)
	@touch $@ $(VENV)/.demo

$(VENV)/.fuzz: $(VENV)/.dev
	$(BIN)/python -m pip install -c constraints.txt 'atheris>=3,<4'
	@touch $@

$(VENV)/.sanitize: $(VENV)/.dev
	$(BIN)/python -m pip install -c constraints.txt 'nanobind>=2.2,<4' cmake ninja
	@touch $@
