# make repro   run the pipeline         make test    run all checks (6 minutes)
# make demo    serve the drawing page   make quick   run the checks without training (1 minute)
# make lock    update the lock files    make clean   remove the environment
.PHONY: repro demo test quick lint lock clean
.DELETE_ON_ERROR:

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,\
	$(shell $(name) -c '$(SUPPORTED)' 2>/dev/null && echo $(name))))
BIN := .venv/bin
# For the stages, which DVC runs as `python`.
export PATH := $(CURDIR)/$(BIN):$(PATH)

repro: .venv/installed
	$(BIN)/dvc repro
	$(BIN)/dvc metrics show
	$(BIN)/dvc list --dvc-only --recursive --size --show-hash .

demo: .venv/installed
	$(BIN)/mnist-cnn-demo

# Four processes for two cores, because many tests wait.
test: lint
	$(BIN)/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

quick: lint
	$(BIN)/pytest --numprocesses 4 --dist loadfile -m "not training"

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --quiet .github

.venv/installed: requirements.txt pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
	touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "error: expected Python 3.11, 3.12 or 3.13 on the PATH; install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv

# requirements.txt constrains the others, so that all can share one environment.
lock: .venv/installed-dev
	$(call compile,pipeline,requirements.txt)
	$(call compile,dev,requirements-dev.txt) --constraints requirements.txt
	$(call compile,benchmark,requirements-benchmark.txt) --constraints requirements.txt

compile = $(BIN)/uv pip compile --upgrade --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --extra $(1) pyproject.toml --output-file $(2)

clean:
	rm -rf .venv build mnist_cnn.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
