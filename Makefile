PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# A process on each core, with one thread: small nets gain more by that than by threads.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: install test test-all test-oldest demo lint bench site dist release-check

# An installed environment is recognised by its stamp; a change of pyproject.toml makes it anew.
install: $(VENV)/stamp

$(VENV)/stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch torchvision
	$(BIN)/pip install --quiet --editable '.[test,hub]'
	touch $@

test: install lint
	$(PYTEST) -m 'not slow'

test-all: install lint
	$(PYTEST)

# The oldest allowed dependencies, in an environment of their own: run by hand before a release.
test-oldest: BIN = $(VENV)-oldest/bin
test-oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(BIN)/pip install --quiet --upgrade pip
	$(PYTHON) tools/oldest.py > $(VENV)-oldest/constraints.txt
	$(BIN)/pip install --quiet --constraint $(VENV)-oldest/constraints.txt --editable '.[test]'
	$(PYTEST) -m 'not slow'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

demo: install
	$(BIN)/datablame audit digits --noise pair --amount 0.2

# The site, in build/site; a warning is an error.
site: install
	$(BIN)/mkdocs build

# What is published: a wheel and a source distribution, in dist/.
dist: install
	$(BIN)/pip install --quiet --editable '.[release]'
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

# Both as a stranger meets them, in environments of their own; by hand before a release (CHANGELOG.md).
release-check: dist
	bash tools/release_check.sh "$(PYTHON)"

bench: install
	$(BIN)/pip install --quiet --editable '.[bench]'
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done
