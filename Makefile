# The study's commands; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
PROFILE ?= study
JOBS ?= 2
BIN = $(VENV)/bin
RUN = $(BIN)/python -m pipeline

# An environment of one's own (VENV=path) is completed, never made or cleared; .venv counts only once its stamp is there.
OWN = $(and $(filter-out .venv,$(VENV)),$(wildcard $(VENV)/bin/python))
STAMP = $(VENV)/.complete
ENVIRONMENT = $(if $(OWN),packages,$(STAMP))

export PYTHONPATH := $(CURDIR)
export JUPYTER_PREFER_ENV_PATH := 1
study test lab rerun tune peers: export PYTHONHASHSEED := 0
study test lab rerun tune peers: export OMP_NUM_THREADS := 1
study test lab rerun tune peers: export OPENBLAS_NUM_THREADS := 1
study test lab rerun tune peers: export MKL_NUM_THREADS := 1
test: export RECSYS_CHECK := 1
test: export RECSYS_OUTPUT := $(CURDIR)/reports/runs/check

.PHONY: help study test lab rerun tune timings peers packages
help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1  \t/p' Makefile

study: $(ENVIRONMENT)  ## run every notebook, regenerate reports/ and figures/ [PROFILE=study JOBS=2 PIP_ARGS=]
	@exec $(RUN) study --profile $(PROFILE) --jobs $(JOBS)

test: $(ENVIRONMENT)  ## lint, types, unit tests, and every notebook against its stored outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadscope --nbval --nbval-current-env \
		--nbval-sanitize-with tests/nbval_sanitize.cfg notebooks tests

lab: $(ENVIRONMENT)  ## JupyterLab on this environment; notebooks are cleaned when saved [LAB_ARGS=]
	@exec $(BIN)/jupyter lab --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/notebooks \
		--ContentsManager.pre_save_hook=pipeline.clean.clean_on_save $(LAB_ARGS)

rerun: $(ENVIRONMENT)  ## one notebook with other parameters: NOTEBOOK=30_ncf [DEVICE= DATASET= SEEDS=0-9 PARAMS="epochs=3"]
	@set -f; exec $(RUN) rerun --seeds "$(SEEDS)" "$(NOTEBOOK)" $(if $(DEVICE),device=$(DEVICE)) \
		$(if $(DATASET),dataset=$(DATASET)) $(PARAMS)

tune: $(ENVIRONMENT)  ## search hyperparameters on validation rows, 30 trials a model, into reports/stored/tuning [MODELS= JOBS=2]
	@exec $(BIN)/python -m pipeline.tune --jobs $(JOBS) $(MODELS)

timings: $(ENVIRONMENT)  ## measure speed and memory into reports/timings.csv [DEVICE=cpu PARTS=]
	@exec $(BIN)/python -m pipeline.benchmarks --device $(or $(DEVICE),cpu) $(PARTS)

peers: $(ENVIRONMENT)  ## measure other libraries beside this code into reports/timings_peers.csv [PEERS= ONLY= PIP_ARGS=]
	@exec $(BIN)/python -m pipeline.peers --pip-args="$(PIP_ARGS)" $(if $(ONLY),--only "$(ONLY)") $(PEERS)

$(VENV)/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than \
	Python 3.11 or is missing; name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@echo "installing pinned packages into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps --editable .
	@touch $@

packages:
	@missing="$$($(VENV)/bin/python pipeline/missing.py requirements.lock)" || exit 1; \
	test -z "$$missing" || $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) $$missing
