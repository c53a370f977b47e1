# `make demo` and `make test` need Python, a C compiler and make; they fill $(VENV) on first use.
# ARGS goes to the program of the verb: make demo ARGS="--frac-bits 16", make test ARGS="-k matmul".
# JOBS: how many processes run tests, a file of tests at a time; 0 for one alone, in which a debugger can stop.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
ARGS ?=
JOBS ?= auto

BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := $(shell find src -type f) $(wildcard pysmpc/*.pxd)
export PIP_CONSTRAINT := $(abspath $(CONSTRAINTS))
export PIP_BUILD_CONSTRAINT := $(PIP_CONSTRAINT)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo demo-remote demo-hosts test notebooks lint type docs bench bench-count curves coverage wheel asan constant-time mutants venv clean
.DEFAULT_GOAL := test

demo: $(READY)
	$(BIN)/pysmpc demo $(ARGS)

demo-remote: $(READY)
	$(BIN)/pysmpc demo --remote $(ARGS)

demo-hosts: $(READY)
	$(BIN)/python bench/hosts.py $(ARGS)

# Tests start hundreds of processes: none should compile the package anew.
test notebooks: export PYTHONDONTWRITEBYTECODE :=

test: $(READY)
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

notebooks: $(READY)
	$(BIN)/pytest -n $(JOBS) -m notebook tests/documents/test_notebooks.py $(ARGS)

lint: $(READY)
	BIN=$(BIN) tools/lint

type: $(READY)
	$(BIN)/mypy && $(BIN)/mypy tests/typing/names.py
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/stubtest --allowlist tools/stubtest-allow --ignore-unused-allowlist pysmpc._ring pysmpc._beaver

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site $(ARGS)

bench: $(READY)
	@mkdir -p build
	$(BIN)/pytest bench -q -p no:randomly --benchmark-quiet --benchmark-json=build/bench.json $(ARGS)

bench-count: $(READY)
	$(BIN)/python bench/count.py $(ARGS)

curves: $(READY)
	$(BIN)/python bench/curves.py $(ARGS)

coverage: $(READY)
	$(BIN)/python tools/coverage_page.py $(ARGS)

wheel: $(READY)
	BIN=$(BIN) tools/wheel

asan: $(READY)
	BIN=$(BIN) tools/asan $(ARGS)

constant-time:
	tools/constant-time

mutants: $(READY)
	$(BIN)/python tests/mutants/run.py $(ARGS)

venv: $(READY)

# The editable install, made again when anything compiled changes.
$(READY): setup.py pyproject.toml $(CONSTRAINTS) $(SOURCES)
	@echo "Installing pysmpc and its tools into $(VENV)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -f pysmpc/*.so  # what was built for one Python only would go before a later build for any
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info pysmpc/*.so .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find pysmpc tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
