# What can be done in a clone?  `make` lists it.
#
# Relies on Python 3.11 to 3.13 with pip, and on a package index that pip can reach; needs no root.  Every version is pinned:
# uv's here, all others with their hashes in the lock files.

PYTHON ?= python3
NAME = overhead
UV_VERSION := 0.13.8

BIN := .venv/bin
UV := .tools/bin/uv
UV_INSTALLED := .tools/uv-$(UV_VERSION).dist-info
PYTEST := $(BIN)/pytest -n 2
LOCKS_IN_STEP := .venv/locks-in-step
SOURCES := api workers models infra tests examples benchmarks docs
CACHES := .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage dist

# Compiled files make every later start quicker; an environment that happens to be active is not ours.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help setup environment demo test up bench check docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv (tram and its tools) and .venv-engine (SGLang for the CPU)
	@$(require_python)
	@[ -x $(BIN)/python ] && [ "$$(cat $(STAMP) 2>/dev/null)" = "$$($(FINGERPRINT))" ] || $(MAKE) --no-print-directory environment
	@$(BIN)/python -m infra.engine.environment .venv-engine

demo: setup ## run the main job once: a chat streamed, waited for, and delivered
	@$(BIN)/python examples/demo.py

test: check ## check, then all tests: the quick ones first, then those that need the engine
	$(PYTEST) -m "not engine and not gpu"
	$(PYTEST) -m "engine and not gpu"

up: setup ## start the service
	@$(BIN)/tram up

bench: setup ## measure what the service adds to the engine, or NAME=gpu, prefixes, cancel, memory, batches, replay
	@$(BIN)/python benchmarks/$(NAME).py

check: setup $(LOCKS_IN_STEP) ## lint, format, types, floors, lock files
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup ## write anew the tables that pages take from the code
	@$(BIN)/python docs/generate.py

lock: $(UV_INSTALLED) ## resolve anew what pyproject.toml asks for, keeping the versions that still fit
	@$(call resolve,.)

clean: ## remove what setup, the checks and the demo made; data of `make up` stays
	rm -rf .venv .venv-engine .venv-engine.lock .venv-engine.part .tools .tram-demo $(CACHES)
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

# --- how .venv comes to be ---------------------------------------------------------------------------------------------

# By content, not by date: a checkout or a rebase that changes nothing costs nothing.
STAMP := .venv/made-from
FINGERPRINT = { $(PYTHON) -VV; cat Makefile pyproject.toml requirements-dev.lock; } | cksum

define require_python
$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	echo "Tramontane needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is $$($(PYTHON) -V 2>&1)."; \
	echo "Name another one: make PYTHON=python3.12 ..."; exit 1; } >&2
endef

environment:
	@[ -d $(UV_INSTALLED) ] || $(MAKE) --no-print-directory $(UV_INSTALLED) || echo "going on without uv, which is slower" >&2
	@echo "making .venv"
	@if [ -x $(UV) ]; then $(with_uv); else $(with_pip); fi
	@$(FINGERPRINT) > $(STAMP)

# The interpreter behind whatever environment $(PYTHON) may belong to: that one could be the .venv about to go.
base_python = $$($(PYTHON) -c 'import sys; print(sys._base_executable)')

define with_uv
$(UV) venv --quiet --clear --python "$(base_python)" .venv && \
$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock && \
$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
endef

define with_pip
"$(base_python)" -m venv --clear .venv && \
$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock && \
$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endef

# A folder of our own, since Debian keeps pip out of its Python ("externally managed"); a user's pip settings would clash with it.
$(UV_INSTALLED):
	@$(require_python)
	@"$(base_python)" -m pip --version >/dev/null 2>&1 || { \
		echo "$(PYTHON) has no pip. On Debian and Ubuntu: apt-get install python3-pip python3-venv" >&2; exit 1; }
	@echo "fetching uv $(UV_VERSION)"
	@PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 "$(base_python)" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
		--upgrade --target .tools uv==$(UV_VERSION)

# --- lock files --------------------------------------------------------------------------------------------------------

# For the oldest Python, whichever runs it; with hashes and without addresses.
COMPILE := $(UV) pip compile pyproject.toml --python-version 3.11 --universal --generate-hashes \
	--no-header --no-annotate --quiet

define resolve
$(COMPILE) --output-file $(1)/requirements.lock && \
$(COMPILE) --group dev --constraints $(1)/requirements.lock --output-file $(1)/requirements-dev.lock
endef

$(LOCKS_IN_STEP): SCRATCH := .tools/locks
$(LOCKS_IN_STEP): pyproject.toml requirements.lock requirements-dev.lock | setup $(UV_INSTALLED)
	@mkdir -p $(SCRATCH) && cp requirements.lock requirements-dev.lock $(SCRATCH)
	@$(call resolve,$(SCRATCH))
	@for lock in requirements.lock requirements-dev.lock; do \
		diff $$lock $(SCRATCH)/$$lock || { echo "$$lock is not what pyproject.toml asks for: make lock" >&2; exit 1; }; done
	@touch $@
