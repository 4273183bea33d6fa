# Sets itself up: the first target that needs Python packages makes .venv and installs them there.
# Wants make and Python 3.11+; another interpreter is named by `make test PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := $(VENV)/.extras

DEMO_CONFIG ?= experiments/lsm2_tiny.py
DEMO_DIR ?= runs/demo

# Worker processes of the test run (0: none): by default one more than cores, because tests wait for processes of their
# own; at most 4, and at most one per 5 GB of memory, which the compiled programs of a long run take. And further
# arguments of pytest, as in `make test ARGS="-k masking"`.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
  pages=$$(getconf _PHYS_PAGES 2>/dev/null || echo 4000000); \
  kb=$$(($$(getconf PAGESIZE 2>/dev/null || echo 4096) / 1024)); \
  printf '%s\n' $$((cores + 1)) $$((pages * kb / 5000000)) 4 | sort -n | head -n 1 | sed 's/^0$$/1/')
ARGS ?=
# A file stays with one worker: what its tests share is made once.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10

# What bench-gpu measures. On a CPU it is rehearsed by
# make bench-gpu GPU_PLATFORMS=cpu GPU_LAYOUT=tiny GPU_WINDOWS=2 GPU_LARGEST=4 GPU_RESULTS=build/gpu PYTHON=...
GPU_LAYOUT ?= lsm2
GPU_WINDOWS ?= 16
GPU_LARGEST ?= 256
GPU_STEPS ?= 200
GPU_RESULTS ?= benchmarks/results
GPU_PLATFORMS ?= cuda,cpu
GPU_PEERS := textbook,compact,compact refined,compact visible,torch textbook bf16,torch strongest,torch strongest observed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench-gpu lint docs format hooks constraints clean

define check_python
	@command -v $(PYTHON) > /dev/null \
	  || { echo "error: no $(PYTHON) here, Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null \
	  || { echo "error: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 2; }
endef

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## train LSM-2 on simulated days, score it on people it never saw, write the report
	$(BIN)/python -m aim.main --config=$(DEMO_CONFIG) --workdir=$(DEMO_DIR)
	$(BIN)/python -m aim.main --config=$(DEMO_CONFIG) --workdir=$(DEMO_DIR) --mode=evaluate
	$(BIN)/python -m aim.main --config=$(DEMO_CONFIG) --workdir=$(DEMO_DIR) --mode=report

test: $(INSTALLED) ## the fast tests, some minutes
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(INSTALLED) $(EXTRAS) ## every test
	$(PYTEST) $(ARGS)

bench-gpu: ## on a machine with one NVIDIA GPU, jax[cuda13] and torch: kernels by value, every GPU figure; 8 minutes
	@# What follows is measured even if a test fails.
	-JAX_PLATFORMS=$(GPU_PLATFORMS) $(PYTHON) -m pytest -q -p no:cacheprovider \
	  tests/model/attention/test_backends.py tests/model/test_token_buffers.py
	@# All take turns and keep their memory, so what is compared has few windows; the largest step runs alone.
	$(PYTHON) -m benchmarks.peers --layouts=$(GPU_LAYOUT):$(GPU_WINDOWS) --repeats=5 --batches=2 --together \
	  "--only=$(GPU_PEERS)" --output=$(GPU_RESULTS)/gpu_peers.csv
	for step in "compact refined" "torch strongest observed"; do \
	  $(PYTHON) -m benchmarks.peers --layouts=$(GPU_LAYOUT):$(GPU_LARGEST) --repeats=3 --batches=2 "--only=$$step" \
	    "--output=$(GPU_RESULTS)/gpu_$$(echo $$step | tr ' ' '_').csv" || exit 1; done
	$(PYTHON) -m benchmarks.accelerator_run --steps=$(GPU_STEPS) --reference=benchmarks/results/losses_cpu.csv \
	  --output=$(GPU_RESULTS)/losses_gpu.csv

lint: $(INSTALLED) ## style, formatting, types, the arrows between rooms, the documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs

docs: $(INSTALLED) ## build the site into build/docs; a broken link, anchor or docstring ends it
	@mkdir -p build
	@# Not --quiet: it silences the warnings that --strict counts.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict > build/docs.log 2>&1 \
	  || { grep -v '^INFO' build/docs.log >&2; exit 1; }
	@echo "documents: build/docs/index.html"

format: $(INSTALLED) ## correct style and formatting where that can be done automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(INSTALLED) ## run the linters before every commit
	$(BIN)/pre-commit install

constraints: ## pin what a fresh installation gives today, for Python 3.11
	$(check_python)
	$(PYTHON) -m venv --clear build/constraints
	build/constraints/bin/python -m pip install --quiet -e ".[dev]"
	@# The comment on top stays. From 3.12 on there are newer releases of jax and flax, which are supported too.
	sed '/^[^#]/,$$d' constraints.txt > build/constraints.txt
	build/constraints/bin/python -m pip freeze --exclude-editable \
	  | sed -E '/^(jax|jaxlib|flax)==/ s/$$/; python_version < "3.12"/' >> build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/constraints

clean: ## remove .venv, builds and caches; data/ and runs/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What only slow tests need: 85 MB of Weights & Biases.
$(EXTRAS): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet -e ".[wandb]" -c constraints.txt
	@touch $@

$(VENV): $(INSTALLED)

$(INSTALLED): setup.py constraints.txt
	$(check_python)
	@echo "Installing jax, flax, grain and the tools into $(VENV): once, about 1 GB, one to five minutes ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet -e ".[dev]" -c constraints.txt
	@touch $@
