# Parley on a machine that has Python and make. Every target sets up what it needs first.
#   make demo     train a recogniser from nothing, and print how well it does
#   make test     the whole suite            make quick   the part to run while working
#   make setup    only the environment       make soak    the long checks
#   make docs     the guides and a reference as a site, build/docs/index.html
#   make reproduce   the experiments' main claims once more, under 6 hours
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
DEMO ?= runs/demo
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo docs reproduce test quick soak lint clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

# Rebuilt only when the pinned dependencies or the package's own description change.
$(STAMP): requirements.lock meetings.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Parley needs Python 3.11 or newer; this is %d.%d. Name another: make PYTHON=python3.12" % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies into $(VENV) (a minute or two, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --require-hashes -r meetings.lock >$(VENV)/meeteval.log 2>&1 \
		|| echo "meeteval could not be built (it takes a C++ compiler and Python's headers; $(VENV)/meeteval.log tells more): no ORC-WER here, and its tests are skipped."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@rm -rf build
	@mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/parley
	@touch $(STAMP)
	@echo "Ready: $(BIN)/parley --help"

demo: setup
	@$(BIN)/python -m parley.benchmarks.demo --run-dir $(DEMO)

# The reference is read from the rooms, not imported. It goes by links of their own: the root also
# holds $(VENV), which would be searched.
docs: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docs.lock
	@rm -rf build/source && mkdir -p build/source/parley
	@ln -s $(addprefix ../../../,__init__.py $(patsubst %/__init__.py,%,$(wildcard */__init__.py))) build/source/parley/
	@$(BIN)/zensical build --clean --strict
	@echo "build/docs/index.html"

reproduce: setup
	@$(BIN)/parley experiment --all --small

test: setup
	$(PYTEST) -m "not soak"

quick: setup
	$(PYTEST) -m "not soak and not slow"

# Long runs, so compiled as users' are (tests/conftest.py).
soak: setup
	XLA_FLAGS="--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true" $(PYTEST) -m soak

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

clean:
	rm -rf $(VENV) build runs
