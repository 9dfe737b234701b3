# `make study` runs the quick study, `make test` the tests. Both set up .venv first.
PYTHON ?= python3
PIP_OPTIONS := --quiet --disable-pip-version-check
VENV   := .venv
BIN    := $(VENV)/bin
STUDY  ?= .
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := true
# A study starts one process per stage. Each would compile torch and DVC again if compiled files may not be written.
unexport PYTHONDONTWRITEBYTECODE

# A virtual environment has absolute paths: it is made anew in a project that was copied or moved.
INSTALLED_IN := $(shell cat $(BIN)/.installed 2>/dev/null)
ifneq ($(INSTALLED_IN),)
ifneq ($(INSTALLED_IN),$(CURDIR))
$(shell rm -f $(BIN)/.installed)
endif
endif

.PHONY: help install tools study lint check test test-extras docs bench calibration soak audit ui lock

help:                       ## this list of targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

install: $(BIN)/.installed  ## .venv from the pinned lock

$(BIN)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install $(PIP_OPTIONS) --no-compile -r requirements.lock
	$(BIN)/pip install $(PIP_OPTIONS) --no-deps --editable .
	@git rev-parse --is-inside-work-tree >/dev/null 2>&1 || for study in . experiments/*/; do \
	  (cd $$study && $(CURDIR)/$(BIN)/dvc config --local core.no_scm true); done
	@echo '$(CURDIR)' > $@

tools: $(BIN)/.tools        ## extra packages for tests, benchmarks and documentation

$(BIN)/.tools: $(BIN)/.installed requirements-dev.lock
	$(BIN)/pip install $(PIP_OPTIONS) --no-compile -r requirements-dev.lock
	@touch $@

study: install              ## the quick study and its report (STUDY=experiments/NAME for another study)
	study run $(STUDY)
	@study where $(STUDY)

lint: tools                 ## ruff and the import rules
	ruff check
	lint-imports

check: lint                 ## ruff, the import rules and the unit tests (under 90 seconds on two cores)
	$(BIN)/python -m pytest tests/unit -n logical $(PYTEST_ARGS)

test: lint                  ## ruff, the import rules and every test (about 11 minutes on two cores)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-extras: tools          ## sentence-transformers, which is in no lock, and the tests that need it
	$(BIN)/pip install $(PIP_OPTIONS) --no-compile --constraint requirements.lock --editable '.[sentences]'
	$(BIN)/python -m pytest tests/integration/test_export.py $(PYTEST_ARGS)

docs: tools                 ## the documentation as web pages, into site/
	$(BIN)/python -m sphinx --fail-on-warning --quiet docs site
	@echo $(CURDIR)/site/index.html

bench: tools                ## training speed and pipeline costs, into reports/benchmarks.md (over an hour on an idle machine)
	$(BIN)/python -m tests.benchmarks.harness
	$(BIN)/python -m tests.benchmarks.precision
	$(BIN)/python -m tests.benchmarks.finetuning
	$(BIN)/python -m tests.benchmarks.clone
	$(BIN)/python -m tests.benchmarks.speed $(BENCH_ARGS)

calibration: tools          ## how often outcomes are wrong in simulated studies, into reports/calibration.md (minutes)
	$(BIN)/python -m tests.benchmarks.calibration

soak: tools                 ## over an hour of kills, restarts and tracker failures (SOAK_ARGS="--minutes 10")
	STUDY_KILLS=200 $(BIN)/python -m pytest tests/integration/test_crash.py -n 0
	$(BIN)/python -m tests.integration.soak $(SOAK_ARGS)

audit: install              ## known vulnerabilities of the pinned packages (queries PyPI's advisories)
	$(BIN)/pip install $(PIP_OPTIONS) pip-audit
	$(BIN)/pip-audit --disable-pip --no-deps -r requirements.lock -r requirements-dev.lock

ui: install                 ## MLflow on http://127.0.0.1:5000 with the recorded runs
	study ui

UV_COMPILE := uv pip compile --universal --python-version 3.11 --no-header --no-annotate --no-emit-find-links pyproject.toml

lock:                       ## resolve both locks again (needs uv); torch pins its GPU libraries itself
	$(UV_COMPILE) --extra test --extra docs > .all.new
	$(UV_COMPILE) --constraints .all.new > .run.new
	{ grep -vE '^(nvidia-|cuda-|triton|torch==)' .run.new; echo 'torch==2.13.0'; } > requirements.lock
	grep -vxFf .run.new .all.new > requirements-dev.lock
	rm .all.new .run.new
