# `make serve` and `make test` set up all they need; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
CLIENTS_VENV := .venv-clients
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
ARGS ?=
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help serve test test-browser test-clients lint format fuzz fidelity soak bench demo-model clean

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

serve: $(VENV)/.serve ## Serve the embedded model on port 8000; ARGS="--port 9000" and the like go to detserve serve
	@exec $(BIN)/detserve serve $(ARGS)

test: $(VENV)/.dev ## Run the tests in WORKERS=2 processes; ARGS="-k name" and the like go to pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-browser: $(VENV)/.browser ## Try the playground in a real Chromium, which is installed if it can be
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq chromium; } || \
		{ echo "make test-browser needs Chromium at /usr/bin/chromium: install your system's package of it, or run this as root on Debian." >&2; exit 1; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser $(ARGS)

test-clients: $(VENV)/.dev $(CLIENTS_VENV)/.clients ## Prove the protocols with third-party clients against a running server
	OMP_NUM_THREADS=1 $(CLIENTS_VENV)/bin/python -m pytest tests/clients $(ARGS)

fuzz: $(VENV)/.dev $(CLIENTS_VENV)/.clients ## Fuzz the OpenAPI document on fake detectors for ten minutes; ARGS="--seconds 60 --seed 2"
	OMP_NUM_THREADS=1 PYTHONPATH=tests/support $(BIN)/python tests/fuzz/fuzz.py $(ARGS)

lint: $(VENV)/.dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fidelity: $(VENV)/.dev ## Compare with what Detectron2 answers and learns and write docs/fidelity*.md
	$(BIN)/python benchmarks/fidelity.py
	$(BIN)/python benchmarks/training_fidelity.py

soak: $(VENV)/.dev ## Swap versions 200 times under load and check every answer; some 30 minutes
	@$(BIN)/python benchmarks/soak.py $(ARGS)

bench: $(VENV)/.dev $(BENCH_VENV)/.bench ## Compare with torchvision, FastAPI and LitServe on the CPU; some 20 minutes
	$(BIN)/python benchmarks/compare_torchvision.py
	$(BIN)/python benchmarks/host_path.py
	$(BIN)/python benchmarks/compare_servers.py --detector no_op
	$(BIN)/python benchmarks/compare_servers.py --detector mask_rcnn

demo-model: $(VENV)/.dev ## Train the embedded demo model anew; it is replaced if the new one is better; an hour
	$(BIN)/python benchmarks/demo_model.py $(ARGS)

clean: ## Remove what make has made
	rm -rf $(VENV) $(BENCH_VENV) $(CLIENTS_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.serve: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "detserve needs Python 3.11 or newer; say which with make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV): PyTorch and the rest, a few minutes on the first run ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.browser: $(VENV)/.dev
	@$(PIP_INSTALL) -e '.[browser]'
	@touch $@

# What is compared with is no dependency of ours. It sees our packages, so that both run on the same
# PyTorch, and nothing of it is installed among them.
$(BENCH_VENV)/.bench: benchmarks/requirements.txt $(VENV)/.dev
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$($(BENCH_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth
	@$(BENCH_VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt
	@touch $@

# The clients bring what would disagree with our own pins; the server runs from its own environment.
$(CLIENTS_VENV)/.clients: tests/clients/requirements.txt
	@$(PYTHON) -m venv $(CLIENTS_VENV)
	@$(CLIENTS_VENV)/bin/python -m pip install --disable-pip-version-check -r $<
	@touch $@
