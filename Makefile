# The commands of this project; CI calls the same. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run flow plan check test test-cases test-kills test-security lint bench-data bench-train bench-gpu bench-anchors stack stack-down snapshot clean setup setup-dev

BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# No dependency reports home; src/acclimate/runtime.py says the same for stages started by hand.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export GX_ANALYTICS_ENABLED := false
export PREFECT_HOME ?= $(CURDIR)/.acclimate/prefect
# DVC unpickles what it finds in its site directory; its own choice, /var/tmp/dvc, is writable for everyone.
export DVC_SITE_CACHE_DIR ?= $(CURDIR)/.acclimate/dvc
# The last line is for `dvc` typed by hand. A relative path would be one below wherever that is done, so .dvc/config cannot name it.
define PREPARE
mkdir -p $(PREFECT_HOME) $(DVC_SITE_CACHE_DIR) && chmod 700 $(DVC_SITE_CACHE_DIR) && \
{ grep -qsF "site_cache_dir = $(DVC_SITE_CACHE_DIR)" .dvc/config.local || dvc config --local core.site_cache_dir "$(DVC_SITE_CACHE_DIR)"; }
endef

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Settings: PROFILE=gpu|tiny (params.<profile>.yaml laid over params.yaml), ACCELERATOR=cpu|gpu,"
	@echo "  PYTHON=python3.12, INSTALLER=uv|pip, MLFLOW_TRACKING_URI=..., TORCH_INDEX_URL=... (on Linux PyPI's torch"
	@echo "  brings CUDA's 3 GB; name PyTorch's index of CPU builds to go without)."

setup:
	@infra/setup.sh run
	@$(PREPARE)

setup-dev:
	@infra/setup.sh dev
	@$(PREPARE)

run: setup ## from raw text to a registered model; PROFILE=gpu for another set of values
	@acclimate check $(if $(PROFILE),--profile $(PROFILE))
	@exec python -m flows.dvc_process --alone repro
	@echo
	@acclimate summary

flow: setup ## the same DAG under Prefect, each stage a task of its own
	@acclimate check $(if $(PROFILE),--profile $(PROFILE))
	@python -m flows.pipeline
	@echo
	@acclimate summary

check: setup ## validate params.yaml; every mistake at once
	@acclimate check $(if $(PROFILE),--profile $(PROFILE))

plan: setup ## time, memory and cost of each training stage, from a few steps of it; what does not fit is refused
	@acclimate plan $(if $(PROFILE),--profile $(PROFILE)) $(if $(MEMORY_MB),--memory-mb $(MEMORY_MB))

test: setup-dev ## every test; PYTEST_ARGS="-k onnx" for some
	@OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-cases: setup-dev ## inputs that people reported in public, with the right values
	@OMP_NUM_THREADS=1 python -m pytest tests/integration/test_cases.py tests/integration/test_model_cases.py $(PYTEST_ARGS)

test-kills: setup-dev ## pretraining killed 20 times and fine-tuning 10 at random moments: the outs are the same bits; 8 to 20 minutes
	@ACCLIMATE_PRETRAIN_KILLS=20 ACCLIMATE_FINETUNE_KILLS=10 OMP_NUM_THREADS=1 python -m pytest -s tests/integration/test_kills.py $(PYTEST_ARGS)

test-security: setup-dev ## every demonstrated attack, with 100,000 fuzzed inputs in all; WHOLE=1: more of each, in a quarter of an hour
	@$(if $(WHOLE),ACCLIMATE_WHOLE=1) ACCLIMATE_FUZZ_INPUTS=$(if $(WHOLE),100000,50000) OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --durations=15 tests/security $(PYTEST_ARGS)

lint: setup-dev ## ruff, mypy --strict, and the direction of imports
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports

bench-data: setup-dev ## packing, tokenizing and loading beside their peers; CURVE=0.1,1,10 for time and memory of so many GB
	@python benchmarks/bench_data.py $(if $(CURVE),--curve $(CURVE)) --json benchmarks/results/data.json

bench-train: setup-dev ## training beside its peers, a quarter of an hour on one core; BENCH_ARGS="--only g1 --sizes tiny"
	@python -m benchmarks.bench_train $(BENCH_ARGS) --json benchmarks/results/train.json

bench-gpu: setup-dev ## the same on an NVIDIA GPU, in eight minutes
	@python -m benchmarks.bench_gpu $(BENCH_ARGS) --json benchmarks/results/gpu.json

bench-anchors: setup-dev ## our code beside published figures and Trainer, on public data by path; ANCHORS="--sick PATH --mrpc PATH ..."
	@python -m benchmarks.anchors $(ANCHORS) --json benchmarks/results/anchors.json

stack: setup ## Prefect, MLflow, work pools and a worker on this machine, behind a key, until `make stack-down`
	@python -m infra.stack up

stack-down: ## stop what `make stack` started, and all that its flow runs started
	@python -m infra.stack down

snapshot: setup ## build data/debian again from Debian's archive (needs apt); FULL=1: all of it, into data/debian-full
	@python -m tools.debian.build --out data/debian$(if $(FULL),-full --full)

clean: ## remove what a run made; keeps the environment, the registry and DVC's cache
	@rm -rf artifacts reports records code.lock.yaml dvc_plots .acclimate/checkpoints .acclimate/prefect .mypy_cache .pytest_cache .ruff_cache .hypothesis
