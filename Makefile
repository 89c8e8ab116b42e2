# The study's commands; `make help` lists them.
PYTHON ?= python3

# What the user gives reaches the shell as it was typed, spaces and dollars included: recipes read "$$NAME", never $(NAME).
GIVEN = PYTHON VENV PROFILE JOBS PIP_ARGS LAB_ARGS NOTEBOOK DEVICE DATASET SEEDS PARAMS MODELS WIDE APART SAMPLER PARTS PEERS ONLY REPLACE FULL MOVIES USERS QUICK TUNE OUT
GIVEN += EXECUTOR EXECUTOR_ARGS JOURNAL
$(foreach name,$(GIVEN),$(eval override export $(name) := $$(value $(name))))
export BIN := $(if $(value VENV),$(value VENV),.venv)/bin
RUN = "$$BIN"/python -m pipeline
WHERE = --executor="$$EXECUTOR" --executor-args="$$EXECUTOR_ARGS"

export PYTHONPATH := $(CURDIR)
export JUPYTER_PREFER_ENV_PATH := 1
study store verify test lab rerun tune peers explorer: export PYTHONHASHSEED := 0
study store verify test lab rerun tune peers explorer: export OMP_NUM_THREADS := 1
study store verify test lab rerun tune peers explorer: export OPENBLAS_NUM_THREADS := 1
study store verify test lab rerun tune peers explorer: export MKL_NUM_THREADS := 1
test: export RECSYS_POLICY := prefix
test: export RECSYS_SCRATCH := reports/executed/test/scratch

.PHONY: help study store verify test lab rerun tune timings peers explorer environment
help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1  \t/p' Makefile

study: environment  ## run every notebook, regenerate reports/ and figures/ [PROFILE=study NOTEBOOK= JOBS=2 REPLACE=1 EXECUTOR=slurm PIP_ARGS=]; or on own ratings [DATASET= MOVIES= USERS= QUICK=1 TUNE=30]
	@exec $(RUN) study --profile="$${PROFILE:-study}" --notebooks="$$NOTEBOOK" --jobs="$${JOBS:-2}" --replace="$$REPLACE" \
		--dataset="$$DATASET" --movies="$$MOVIES" --users="$$USERS" --quick="$$QUICK" --tune="$$TUNE" $(WHERE)

store: environment  ## run notebooks and store what they train: NOTEBOOK="30_ncf 35_ncf_depth", or all [JOBS=2]
	@exec $(RUN) store --notebooks="$$NOTEBOOK" --jobs="$${JOBS:-2}" $(WHERE)

verify: environment  ## train again what is stored and compare; changes nothing, continues when stopped [NOTEBOOK= FULL=1 JOBS=2]
	@exec $(RUN) verify --notebooks="$$NOTEBOOK" --full="$$FULL" --jobs="$${JOBS:-2}" $(WHERE)

test: environment  ## lint, types, unit tests, and every notebook against its stored outputs
	"$$BIN"/ruff check .
	"$$BIN"/ruff format --check .
	"$$BIN"/mypy
	"$$BIN"/python -m pytest -n 2 --dist loadscope --nbval --nbval-current-env \
		--nbval-sanitize-with tests/nbval_sanitize.cfg notebooks tests

lab: environment  ## JupyterLab on this environment; notebooks are cleaned when saved [LAB_ARGS=]
	@set -f; exec "$$BIN"/jupyter lab --ServerApp.root_dir="$$PWD" --LabApp.default_url=/lab/tree/notebooks \
		--ContentsManager.pre_save_hook=pipeline.runs.clean.clean_on_save $$LAB_ARGS

rerun: environment  ## one notebook with other parameters: NOTEBOOK=30_ncf [DEVICE= DATASET= SEEDS=0-9 PARAMS="epochs=3"]
	@exec $(RUN) rerun --seeds="$$SEEDS" --device="$$DEVICE" --dataset="$$DATASET" -- "$$NOTEBOOK" "$$PARAMS"

tune: environment  ## search hyperparameters on validation rows, 30 trials a model, into reports/stored/tuning [MODELS= WIDE=1 APART=1 SAMPLER=1 JOURNAL=1 JOBS=2]
	@set -f; exec "$$BIN"/python -m pipeline.bench.tune --jobs="$${JOBS:-2}" --wide="$$WIDE" --apart="$$APART" --sampler="$$SAMPLER" \
		--journal="$$JOURNAL" $$MODELS

timings: environment  ## measure speed and memory into reports/timings.csv [DEVICE=cpu PARTS=]
	@set -f; exec "$$BIN"/python -m pipeline.bench.timings --device="$${DEVICE:-cpu}" $$PARTS

peers: environment  ## measure other libraries beside this code into reports/timings_peers.csv [PEERS= ONLY= PIP_ARGS=]
	@set -f; exec "$$BIN"/python -m pipeline.bench.peers --pip-args="$$PIP_ARGS" $${ONLY:+--only="$$ONLY"} $$PEERS

explorer: environment  ## one file for a browser, explorer.html: rate films, and see what three models recommend [DATASET=ml-100k OUT=]
	@exec "$$BIN"/python -m recsys_core explorer --dataset="$${DATASET:-ml-100k}" --out="$${OUT:-explorer.html}"

environment:
	@command -v "$$PYTHON" >/dev/null || { echo "error: there is no program $$PYTHON; name a Python of 3.11 or newer:" \
		"make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@"$$PYTHON" pipeline/runs/environment.py "$$VENV" "$$PIP_ARGS"
