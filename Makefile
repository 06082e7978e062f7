# Everything runs in .venv; no target needs another step first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fast lint bench faults lock clean

.venv/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/.installed  ## run the main job once, everything embedded: no services, no set-up
	$(BIN)/webhook demo

test: .venv/.installed  ## every test but faults and benchmarks: starts its own Kafka and PostgreSQL
	$(BIN)/python -m pytest -m "not faults and not bench"

fast: .venv/.installed  ## the tests that need no service
	$(BIN)/python -m pytest -q -m "not faults and not bench and not kafka and not postgres and not embedded"

lint: .venv/.installed  ## style, types and import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed  ## ratios against bare loops on a local Kafka and PostgreSQL
	$(BIN)/python -m tests.bench

faults: .venv/.installed  ## long fault runs: kills, restarts, full disks
	$(BIN)/python -m pytest -m faults

lock:  ## resolve the dependencies anew
	$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-annotate --no-header --extra local --extra dev --extra otel \
		--output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .webhook build dist *.egg-info
