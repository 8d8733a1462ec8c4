# make run | test | check | coverage | demo | bench | soak | setup
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup dev run test check lint coverage demo bench soak clean

setup: $(VENV)/.runtime
dev: $(VENV)/.dev

$(VENV)/.runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (PYTHON=python3.11 make ...)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --prefer-binary -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.lock
	@touch $@

run: setup
	@$(BIN)/shoal up --default-folder

demo: setup
	@$(BIN)/python -m shoal.node.demo

test: lint
	@$(BIN)/python -m pytest -n 3 --dist worksteal

check: test

coverage: dev
	@$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: dev
	@$(BIN)/python -m bench

soak: dev
	@$(BIN)/python -m pytest -m soak --timeout 7200
	@$(BIN)/python -m tests.sim --seeds 10000 0 --forever

clean:
	rm -rf $(VENV) build dist *.egg-info
