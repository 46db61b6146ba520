# Everything NI does on a machine with nothing but make and Python 3.11 or newer.
#   make run       set up, start and serve; Ctrl-C stops it
#   make test      all tests, with real servers of their own      (ARGS='-k name' to choose)
#   make check     style, types, import walls, documents
#   make bench     the figures of docs/explanation/performance.md
#   make torture   the long kill tests, and nights measured in their whole length
#   make lock      write the hash-locked requirement lists anew   (needs the package index)
#   make clean     remove what was set up; the bank's data in .ni stay

SHELL := /bin/sh
.DEFAULT_GOAL := run
.PHONY: run test check types rules bench torture lock clean venv venv-dev rabbitmq
BIN := .venv/bin
ARGS ?=
# Three processes: each drives servers of its own kind on the same cores, and waits for them. They
# take whole files, in the order of tests/conftest.py: the longest first.
WORKERS ?= 3

run: venv
	@exec $(BIN)/ni up $(ARGS)

test: venv-dev rabbitmq
	@exec $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: venv-dev
	@$(MAKE) --no-print-directory -j 2 types rules

types:
	@$(BIN)/mypy --strict

rules:
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q $(wildcard tests/tidy tests/docs)

bench: venv-dev rabbitmq
	@exec $(BIN)/python -m bench $(ARGS)

torture: venv-dev rabbitmq
	@exec $(BIN)/python -m tests.torture $(ARGS)

# A real RabbitMQ for tests and figures, installed when root may; nothing of it is left running.
rabbitmq: venv-dev
	@$(BIN)/python -m tests.support.rabbitmq_program

venv:
	@sh tools/venv.sh run

venv-dev:
	@sh tools/venv.sh dev

# No index address, no link and no option gets into the lists, so they serve every mirror.
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes \
	--strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	--no-emit-options
lock: venv-dev
	@$(COMPILE) $(ARGS) --output-file requirements.txt requirements.in
	@$(COMPILE) $(ARGS) --output-file requirements-dev.txt requirements-dev.in

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .schemathesis
	rm -rf build dist *.egg-info
	find . -path ./.ni -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
