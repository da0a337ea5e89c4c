# The one front door. Every target works from a fresh clone; nothing is installed twice.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first of these that is Python 3.11 or newer; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
FILE ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
SOURCES := pyproject.toml $(wildcard dsn/kernels/*.[ch])
SHIM := deploy/pysha3-shim/pyproject.toml deploy/pysha3-shim/sha3.py
PROTOS := $(sort $(wildcard protos/dsn/v1/*.proto))

.PHONY: help demo test quick lint types floors bench protos contracts docs clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

demo: $(VENV)/.installed ## install, then tell the story of one file (FILE=... chooses it)
	$(BIN)/dsn demo $(FILE)

test: lint types ## lint, types, floors and all tests
	$(BIN)/pytest -n 2 --dist loadgroup

quick: lint ## under a minute: lint, floors, unit tests
	$(BIN)/pytest -n 2 -q tests/arch tests/unit tests/vectors

lint: $(VENV)/.installed-test ## ruff and buf
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/buf lint

types: $(VENV)/.installed-test ## mypy --strict
	$(BIN)/mypy

floors: $(VENV)/.installed-test ## imports point down, never up
	$(BIN)/lint-imports

bench: $(VENV)/.installed ## timed scripts; each prints one JSON line
	for script in $$(grep -l __main__ bench/*.py); do $(BIN)/python "$$script"; done

protos: $(VENV)/.installed-test ## write dsn/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. $(PROTOS)

contracts: $(VENV)/.installed-test contracts/node_modules ## compile contracts/ into dsn/rpc/contracts (needs npm)
	$(BIN)/python contracts/build.py

docs: $(VENV)/.installed-test ## write docs/reference from the code
	$(BIN)/python docs/reference/write.py

clean: ## remove what make made
	rm -rf $(VENV) build dsn.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find dsn tests bench -name __pycache__ -prune -exec rm -rf {} +
	rm -f dsn/kernels/_leafhash.*.so dsn/kernels/_recovery.*.so

contracts/node_modules: contracts/package.json
	npm install --prefix contracts --no-package-lock --no-audit --no-fund --silent
	@touch $@

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "dsn needs Python 3.11 or newer: install one, or name it with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dsn needs Python 3.11 or newer; $(PYTHON) is not: name another with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(SOURCES) | $(VENV)/bin/python
	$(PIP) install -e '.'
	@touch $@

# merkletools wants pysha3, so its stand-in comes first.
$(VENV)/.installed-test: $(SOURCES) $(SHIM) | $(VENV)/bin/python
	$(PIP) install ./deploy/pysha3-shim
	$(PIP) install -e '.[bittorrent,chain,contracts,drand,plots,postgresql,second-opinion,test]'
	$(PIP) check
	@touch $@ $(VENV)/.installed
