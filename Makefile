# Each target does its own set-up (tools/bootstrap.sh): a virtual environment, the packages of constraints.txt, and
# where a window is needed the system libraries of Qt and OpenGL.
#   make test PYTHON=python3.12      another interpreter, for a new environment
#   make test VENV=../env            another environment
#   make test WORKERS=               in one process, to use a debugger
#   make test ARGS="tests/mil -x"    arguments for pytest; for the demo, the benchmarks and the window likewise

VENV ?= .venv
PYTHON ?=
ARGS ?=
export VENV PYTHON

ifneq ($(words $(VENV)),1)
$(error VENV must be one path without spaces, not '$(VENV)')
endif

BIN := $(VENV)/bin
# Linux machines may have no screen; elsewhere a window opens without one. Each process of the tests has its own (pytest-xvfb).
SCREEN := $(if $(filter Linux,$(shell uname -s)),xvfb-run -a)

# Tests compute on one thread each, so that their sums are repeatable: processes use the other processors.
WORKERS ?= -n logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: check-wsinfer help demo test test-all quick types lint format docs bench torture soak audit gui screenshots clean window screen
.NOTPARALLEL:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: $(VENV)/.installed-base ## the whole method on a drawn cohort, in one to two minutes; writes demo/
	$(BIN)/distill2label demo --out demo $(ARGS)

test: screen $(VENV)/.installed-test ## the tests without the long ones, on up to four processors
	$(BIN)/python -m pytest $(WORKERS) -m "not long" $(ARGS)

test-all: screen $(VENV)/.installed-test ## every test
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

quick: screen $(VENV)/.installed-test ## the tests of core, slides, mil and store, without the slow ones
	$(BIN)/python -m pytest $(WORKERS) -m "not slow and not long and not gui" \
	    tests/core tests/slides tests/mil tests/store $(ARGS)

types: $(VENV)/.installed-test ## mypy, by the rules of pyproject.toml
	$(BIN)/python -m mypy

lint: $(VENV)/.installed-test ## ruff, formatting, napari's manifest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/npe2 validate napari_distill2label/napari.yaml

format: $(VENV)/.installed-test ## ruff mends what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs ## the documentation as HTML, in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.installed-test ## the measured claims
	$(BIN)/python -m benchmarks $(ARGS)

torture: screen $(VENV)/.installed-test ## kills, power cuts, lies and shortages for half an hour, and one table (ARGS="--minutes 60"; AGAINST=COMMIT: what was wrong then)
	$(SCREEN) $(BIN)/python -m torture $(if $(AGAINST),against $(AGAINST),$(ARGS))

soak: screen $(VENV)/.installed-test ## one window for an hour, again and again, and what it holds (ARGS="--minutes 5")
	$(BIN)/python -m torture soak $(ARGS)

audit: $(VENV)/.installed-test ## bandit, licences, known vulnerabilities, and dist/sbom.json
	tools/audit.sh $(VENV)

check-wsinfer: $(VENV)/.installed-test ## WSInfer's own program on our exported network (needs D2L_WSINFER, D2L_DATA)
	$(BIN)/python -m benchmarks.check_wsinfer $(ARGS)

gui: window $(VENV)/.installed-gui ## napari with the dock widget
	$(BIN)/distill2label gui $(ARGS)

screenshots: screen $(VENV)/.installed-test ## draw docs/images/ anew, from a real napari
	$(SCREEN) $(BIN)/python docs/make_screenshots.py $(ARGS)

clean: ## remove what make made, the environment too
	[ ! -e $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
	rm -rf build dist demo docs/_build *.egg-info .pytest_cache .ruff_cache .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed-%: setup.cfg pyproject.toml constraints.txt tools/bootstrap.sh
	@tools/bootstrap.sh venv $*

window:
	@tools/bootstrap.sh system python qt

screen:
	@tools/bootstrap.sh system python qt xvfb
