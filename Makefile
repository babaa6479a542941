# `make help` lists the targets. Everything here needs Python 3.11 or later and make, nothing else.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3.14 python3))
BIN := .venv/bin
CODE := operator demo localcluster tests scripts calibration benchmarks

# A cluster of one's own is used only where it is named on the command line: an exported KUBECONFIG
# may be a production cluster's.
OWN_CLUSTER := $(if $(filter command line,$(origin KUBECONFIG)),--kubeconfig "$(KUBECONFIG)")
unexport KUBECONFIG

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into .venv (1.8 GB, about three minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: install
install: .venv/installed ## lay .venv with the package and the development tools

.PHONY: parts
parts: install ## build the real parts into the cache, once (20 minutes on 2 cores)
	@$(BIN)/python -m localcluster build

.PHONY: demo
demo: $(if $(OWN_CLUSTER),install,parts) ## an experiment from start to verdict; BREAK=errors breaks v2 on the way
	@$(BIN)/python -m demo $(OWN_CLUSTER)

.PHONY: demo-down
demo-down: install ## end whatever a killed demo has left behind
	@$(BIN)/python -m demo --down

.PHONY: cluster
cluster: parts ## start the real parts alone and leave them running; last line: the kubeconfig
	@$(BIN)/python -m localcluster up

.PHONY: cluster-down
cluster-down: install ## end them
	@$(BIN)/python -m localcluster down

.PHONY: generate
generate: install ## write everything that is derived: CRD, manifests, reference
	@$(BIN)/python scripts/generate.py

.PHONY: lint
lint: install ## ruff, mypy --strict, import contracts, derived files up to date
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/generate.py --check

.PHONY: unit
unit: install ## the tests that need none of the parts, in under a minute
	@$(BIN)/python -m pytest -q -n 2 -m "not e2e"

.PHONY: test
test: parts lint unit ## the whole suite, on the real parts
	@$(BIN)/python -m pytest -q -m e2e

.PHONY: calibrate
calibrate: install ## measure the statistics against their promises (minutes)
	@$(BIN)/python -m calibration

.PHONY: bench-assign
bench-assign: install ## users a minute that `modelexperiment assign` predicts
	@$(BIN)/python benchmarks/assign.py

.PHONY: bench-sticky
bench-sticky: parts ## what a sticky route and its entries cost Envoy, istiod and the API server
	@PYTHONPATH=. $(BIN)/python benchmarks/sticky.py

.PHONY: bench-comparer
bench-comparer: install ## predictions a second that a comparer takes, and its memory
	@PYTHONPATH=. $(BIN)/python benchmarks/comparer.py

.PHONY: bench-scale
bench-scale: parts ## what the operator costs with 100, 500 and 2,000 experiments (15 minutes)
	@PYTHONPATH=. $(BIN)/python benchmarks/scale.py

.PHONY: bench-rollback
bench-rollback: parts ## seconds from a fault to 100 % champion in Envoy, 20 times each of four faults (20 minutes)
	@PYTHONPATH=. $(BIN)/python benchmarks/rollback.py

.PHONY: clean
clean: ## remove .venv and what tools have cached; the built parts stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
