# `make serve` and `make test` are all a newcomer needs: each makes the environment it wants in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENT := broker/web/client

.PHONY: help serve test test-quick coverage fuzz lint fix documents wheel web web-check bench clean

# Many tests wait for a server or a clock: one more runs than there are processors.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# The parts that everything else stands on.
QUICK := tests/actors tests/rooms tests/sessions tests/protocol tests/transport tests/auth tests/config

# Installs into an environment, with the rest of the line. `.ci/run` sets another that needs a twelfth of the time.
INSTALL = $(1)/bin/pip install --quiet --disable-pip-version-check

# Each rule of flake8-async is about one of these, and it takes a third of a second for a file: others are left out.
ASYNC := 'async|await|trio|anyio'

serve: $(VENV)/runtime
	@exec $(BIN)/greenroom serve --dev $(if $(PORT),--port $(PORT))

help:
	@echo "make serve       run a server on this machine, with a console to open in a browser (PORT=8001 for another port)"
	@echo "make test        run all tests"
	@echo "make test-quick  run the tests of the core: $(QUICK)"
	@echo "make coverage    run all tests, and count the lines that they reach (takes half as long again)"
	@echo "make fuzz        look for inputs that break a parser (MINUTES=60 for an hour; ten by default)"
	@echo "make lint        check style, types and the direction of imports"
	@echo "make fix         format the code, and mend what ruff can"
	@echo "make documents   write the JSON Schema and the AsyncAPI document of the protocol to docs/"
	@echo "make wheel       build the wheel, and try it in an empty environment"
	@echo "make web         build the browser client (needs Node.js)"
	@echo "make web-check   check and test the browser client (needs Node.js)"
	@echo "make bench       run every benchmark, and draw the plots of the README (over an hour)"
	@echo "make clean       remove the environment and everything that was built"

test: $(VENV)/dev
	$(BIN)/pytest -n $(JOBS) -q

# Not a part of test: to count lines costs two thirds more of the processor.
coverage: $(VENV)/dev
	$(BIN)/pytest -n $(JOBS) -q --cov --cov-report=term --cov-fail-under=95

test-quick: $(VENV)/dev
	$(BIN)/pytest -n $(JOBS) -q -m "not slow" $(QUICK)

# Guided by coverage, with atheris; CONTRIBUTING.md, "Fuzzing". `FUZZ="ndjson commands"` for some targets only.
fuzz: $(VENV)/dev
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10) $(FUZZ)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8 $$(grep -rlE --include='*.py' $(ASYNC) actors broker bench)
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A test compares them with the code.
documents: $(VENV)/runtime
	$(BIN)/python -m broker.protocol.documents docs

# Builds the wheel, installs it and nothing else into an empty environment, and runs the command from there.
wheel: $(VENV)/dev
	rm -rf dist $(VENV)/wheel-env
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv $(VENV)/wheel-env
	$(call INSTALL,$(VENV)/wheel-env) dist/greenroom-*.whl
	cd / && $(abspath $(BIN))/python $(abspath .ci/smoke.py) $(abspath $(VENV))/wheel-env/bin/greenroom

# Builds the browser client, which is committed: only those who change it need Node.
web: $(CLIENT)/node_modules
	cd $(CLIENT) && npm run --silent build

# Checks its types, that what is committed is what its source makes, its size, and that it works with a real server.
web-check: $(CLIENT)/node_modules $(VENV)/dev
	cd $(CLIENT) && npm run --silent check && GREENROOM_PYTHON=$(abspath $(BIN))/python npm run --silent test

# Every scenario against every server that is there, and the README's plots: an hour, on a machine with nothing else
# to do. `make bench BENCH="--quick --plots /tmp/plots"` only shows that it runs.
bench: $(VENV)/bench
	$(BIN)/python -m bench all --plots .readme/bench $(BENCH)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	rm -rf examples/node_modules $(CLIENT)/node_modules $(CLIENT)/dist $(CLIENT)/.tests

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("greenroom needs Python 3.11 or later: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	@echo "Making a Python environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: pyproject.toml | $(VENV)/bin/python
	@echo "Installing Greenroom and what it needs into $(VENV): once, about a minute ..."
	@$(call INSTALL,$(VENV)) --editable .
	@touch $@

$(VENV)/dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing Greenroom and its tools into $(VENV): some minutes ..."
	@$(call INSTALL,$(VENV)) --editable '.[dev,fuzz,openapi]'
	@touch $@ $(VENV)/runtime

$(CLIENT)/node_modules: $(CLIENT)/package-lock.json
	cd $(CLIENT) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/bench: pyproject.toml | $(VENV)/bin/python
	$(call INSTALL,$(VENV)) --editable '.[bench]'
	@touch $@
