# Millrace: everything that a contributor or a CI machine runs. Needs make and Python >= 3.11.
#
# The environment lives in .venv and is stamped with a checksum of what it was made from (lock file,
# pyproject.toml, this folder's path), so a second run downloads nothing and starts at once.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo live test long check fix bench faults fuzz soak session compile replay \
	lock clean

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.made-from-$(shell { cat requirements.lock pyproject.toml; pwd; } | cksum | tr ' ' '-')
RULES := tests/unit/test_architecture.py tests/unit/test_tidy.py tests/unit/test_docs.py \
	tests/unit/test_public_names.py
PYTEST := $(PY) -m pytest

# Arguments for the commands behind the targets: make demo DEMO_ARGS=--exit
DEMO_ARGS ?=
BENCH_ARGS ?=
LIVE_ARGS ?=
FAULTS_ARGS ?=
FUZZ_ARGS ?=
SOAK_ARGS ?=
SEED ?= 1
TEST_ARGS ?=

# The interpreter that makes .venv: PYTHON=... or the newest of these that runs and is new enough.
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3 python)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

help: ## Print this help.
	@echo "Millrace. Targets:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON (interpreter for a new .venv), DEMO_ARGS, LIVE_ARGS, TEST_ARGS, BENCH_ARGS, SEED"

setup: $(STAMP) ## Make .venv with the locked dependencies (quick when nothing changed).
	@echo "Ready. Next: make demo, make test, $(BIN)/millrace --help"

$(STAMP):
	@python=; for candidate in $(CANDIDATES); do \
		if "$$candidate" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: no Python >= 3.11 among: $(CANDIDATES);" \
			"install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	if ! $(PY) -c '$(NEW_ENOUGH); import pip' >/dev/null 2>&1; then \
		echo "Making $(VENV) with $$("$$python" -V)"; \
		"$$python" -m venv --clear $(VENV) || { \
			echo "error: $$python cannot make a virtual environment;" \
				"install its venv module (on Debian: apt install python3-venv)" >&2; \
			exit 1; \
		}; \
	fi
	@rm -f $(VENV)/.made-from-*
	@echo "Installing the locked dependencies (a minute the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		--requirement requirements.lock || { \
			echo "error: the dependencies could not be installed (see above);" \
				"check the network or pip's settings, then run make again" >&2; \
			exit 1; \
		}
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--editable . || { \
			echo "error: Millrace itself could not be installed (see above)" >&2; \
			exit 1; \
		}
	@touch $@

demo: $(STAMP) ## Play a recorded trading session through all agents; DEMO_ARGS=--exit ends by itself.
	@$(BIN)/millrace demo $(DEMO_ARGS)

live: $(STAMP) ## The whole on a real Kafka: broker, two workers, a recording; Ctrl-C stops everything.
	@$(BIN)/millrace live $(LIVE_ARGS)

test: $(STAMP) ## Run all tests, the rule tests among them; TEST_ARGS='-k bars' chooses some.
	@$(PY) -m tests $(TEST_ARGS)

long: $(STAMP) ## Run the tests that take minutes each: whole sessions on Kafka by the command line.
	@MILLRACE_TEST_LONG=1 $(PYTEST) tests/long tests/integration/test_reference_api.py $(TEST_ARGS)

check: $(STAMP) ## Lint, format, types and rule tests; changes nothing.
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PYTEST) --quiet $(RULES)

fix: $(STAMP) ## Format, and mend what can be mended safely.
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: $(STAMP) ## Measure speed on this machine; BENCH_ARGS=replay, kafka, fanout or ingest.
	@$(PY) -m tests.benchmarks --compiled build/compiled $(BENCH_ARGS)

faults: $(STAMP) ## Kill, stop and rebalance workers and brokers of a real Kafka; SEED=1 chooses how.
	@$(PY) -m tests.simulation.faults --seed $(SEED) $(FAULTS_ARGS)

fuzz: $(STAMP) ## 10^5 spoiled requests and frames against a running engine; SEED=1 chooses them.
	@$(PY) -m tests.simulation.fuzz --seed $(SEED) $(FUZZ_ARGS)

soak: $(STAMP) ## A long session on a real Kafka; SOAK_ARGS='--minutes 30 --rate 20000'.
	@$(PY) -m tests.simulation.soak $(SOAK_ARGS)

session: $(STAMP) ## Play the whole demo through workers on a real Kafka, and check every record.
	@$(PY) -m tests.simulation.kafka_session

compile: $(STAMP) ## Compile the order path into build/compiled (needs a C compiler; optional).
	@$(PY) -m infra.compiled build/compiled

replay: $(STAMP) ## Check the golden recordings and wire samples.
	@$(PYTEST) tests/replay tests/unit/test_schemas_golden.py $(TEST_ARGS)

lock: ## Resolve requirements.lock anew from pyproject.toml (needs uv).
	@command -v uv >/dev/null || { echo "error: make lock needs uv: pip install uv" >&2; exit 1; }
	@env -u PIP_FIND_LINKS -u UV_FIND_LINKS uv pip compile --quiet --universal --generate-hashes \
		--python-version 3.11 --group dev --custom-compile-command "make lock" \
		pyproject.toml --output-file requirements.lock

clean: ## Remove .venv and everything that tools left behind; data, runs and results stay.
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
