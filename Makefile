# Two commands do everything: `make demo` and `make test`. Both set up .venv from the locked requirements first.
# The system's own Python where it is new enough, else the first on the PATH: distributions build theirs with profile
# guidance, which takes an eighth off each call (docs/measurements.md). Another one: make PYTHON=python3.12
ifndef PYTHON
PYTHON := $(shell /usr/bin/python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && echo /usr/bin/python3 || echo python3)
endif
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup demo bench fuzz test test-long check lint types contracts format lock clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv and install the locked requirements

$(STAMP): requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edge911 needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q sip e911 config router simulations # once, not by each worker and process
	touch $@

demo: $(STAMP)   ## three 911 calls on loopback, start to finish
	$(BIN)/edge911 demo

bench: $(STAMP)  ## calls per second, latency, failover, on this machine (needs SIPp; about 3 min)
	$(BIN)/python -m simulations.bench
	$(BIN)/python -m simulations.bench.notices
	$(BIN)/python -m simulations.bench.devices

fuzz: $(STAMP)   ## coverage-guided fuzzing, then 10 million mutated messages (an hour and more)
	mkdir -p .fuzz-corpus
	if $(BIN)/python -c 'import atheris' 2>/dev/null; \
	then $(BIN)/python -m tests.fuzz.guided .fuzz-corpus -max_total_time=600 -max_len=20000; \
	else echo "not guided by coverage: Atheris has no wheel for this Python or system"; fi
	$(BIN)/python -m tests.fuzz.bulk --messages 10000000 --corpus .fuzz-corpus

test: $(STAMP)   ## every test but the long ones (under 5 minutes)
	$(call run-tests,not long)

test-long: $(STAMP)   ## many kills, storms, crowds, fuzzing, ten thousands of rows (some 4 minutes more)
	$(call run-tests,long)

# Six at a time; what failed beside the others is tried once more by itself.
define run-tests
	$(BIN)/python -m pytest -m "$(1)" -n 6 --dist loadfile --no-loadscope-reorder tests || { \
	    test $$? -eq 1 && echo "== what failed beside the others, once more by itself" && \
	    $(BIN)/python -m pytest -m "$(1)" --last-failed --last-failed-no-failures none tests; }
endef

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports --no-cache

check: lint types contracts test test-long   ## format, lint, types, import contracts, every test

format: $(STAMP) ## put the sources in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command "make lock" --upgrade pyproject.toml

lock: $(STAMP)   ## renew the locked requirements
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --output-file requirements-dev.txt

clean:           ## remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
