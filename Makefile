# `make` alone lists the targets. Every target makes .venv by itself and leaves alone what is there already.

PYTHON ?= python3
PIP_ARGS ?=
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(PIP_ARGS) --constraint constraints.txt

# As many threads as torch would take by itself: without a number, `accelerate launch` leaves a machine without a GPU one.
THREADS = $$($(BIN)/python -c "import torch; print(torch.get_num_threads())")
LAUNCH = $(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
	--num_cpu_threads_per_process $(THREADS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test browser quality style bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.core ## train on procedural faces, complete held-out halves, measure: runs/demo
	@$(LAUNCH) train_halfface.py --config configs/demo.yaml
	@$(BIN)/halfface evaluate --model runs/demo --data procedural --out runs/demo/evaluation

test: $(VENV)/.test ## run all tests, a process per core; ARGS="-m 'not slow'" goes to pytest
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

browser: $(VENV)/.browser ## install what the tests of the page need (Chromium comes from the system)

quality: $(VENV)/.dev ## lint, formatting, types, docstrings; changes nothing
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pydoclint --quiet src train_halfface.py
	@echo "quality: ruff, mypy and pydoclint are content"

style: $(VENV)/.dev ## repair what ruff can repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.test ## run every script of benchmarks/ that needs no GPU and no model
	@for script in $(filter-out benchmarks/gpu.py,$(wildcard benchmarks/*.py)); do echo "$$script"; $(BIN)/python "$$script" || exit 1; done

# The environment. Stamps in .venv say which extras are in; a change of the two files they depend on installs again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# torch first and alone, so that its build can come from TORCH_INDEX; what it needs comes with the next step.
$(VENV)/.torch: constraints.txt | $(BIN)/pip
	@echo "Installing torch ..."
	@$(PIP_INSTALL) --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@touch $@

comma := ,
define install
	@echo "Installing halfface-pipeline$(1) into $(VENV): some minutes the first time ..."
	@$(PIP_INSTALL) --editable '.$(1)'
	@touch $(2)
endef

$(VENV)/.core: pyproject.toml constraints.txt $(VENV)/.torch
	$(call install,,$@)

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/.torch
	$(call install,[test],$@ $(VENV)/.core)

$(VENV)/.browser: pyproject.toml constraints.txt $(VENV)/.torch
	$(call install,[test$(comma)browser],$@ $(VENV)/.test $(VENV)/.core)

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.torch
	$(call install,[dev],$@ $(VENV)/.test $(VENV)/.core)
