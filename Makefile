# make fit, make test: everything from nothing; make setup: the environment alone. make gpu: on a card, as it is.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup fit test bench gpu lint clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fastlam needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

fit: setup
	$(BIN)/fastlam fit

# A process for each core; what a file compiles stays in one.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup

bench: setup
	$(BIN)/python -m pytest bench --benchmark-enable --benchmark-json=.benchmarks.json
	$(BIN)/python -m bench.table .benchmarks.json

# With the Python and the packages that the machine has: nothing is installed, nothing is fetched.
gpu:
	PYTHONPATH=. $(PYTHON) -m bench.gpu

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .benchmarks .benchmarks.json
