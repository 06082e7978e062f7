# Everything runs in .venv, which is made on first use; no target needs another step first.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test fast lint bench faults lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "python3 -m venv fails; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the locked dependencies into .venv (about a minute, once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.installed  ## run the main job once, everything embedded: no services, no set-up
	@$(BIN)/webhook demo

test: .venv/.installed  ## every test but faults and benchmarks; starts its own Kafka and PostgreSQL
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile -m "not faults and not bench" --ignore tests/faults/test_short.py
	@$(BIN)/python -m pytest -q tests/faults/test_short.py  # alone: its broker has to start anew in time

fast: .venv/.installed  ## the tests that need no service
	@$(BIN)/python -m pytest -q -m "not faults and not bench and not kafka and not postgres and not embedded"

lint: .venv/.installed  ## style, types and import direction
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/.installed  ## ratios against bare loops on a local Kafka and PostgreSQL
	@$(BIN)/python -m tests.bench

faults: .venv/.installed  ## every fault scenario in full, hours: kills, restarts, full disks, networks; one table
	@$(BIN)/python -m tests.faults

lock: .venv/.installed  ## resolve the dependencies anew
	$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-annotate --no-header --extra local --extra dev --extra otel \
		--output-file requirements.lock pyproject.toml

clean:  ## remove what the other targets made
	rm -rf .venv .webhook build dist *.egg-info
