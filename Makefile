# Everything installs itself into .venv, and again only when pyproject.toml or constraints.txt change.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.installed

.PHONY: help cartpole classify test check lowest mutants results tensorboard browser peers

help:                       ## say what each command does
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

cartpole: $(READY)          ## train PPO on CartPole-v1, then evaluate the saved agent
	$(RUN) -m scripts.train_cartpole --log-dir runs/cartpole
	$(RUN) -m scripts.evaluate runs/cartpole

classify: $(READY)          ## train a classifier on scikit-learn's digits
	$(RUN) -m scripts.train_classifier --log-dir runs/digits

test: $(READY)              ## every test and every docstring's example, in a process per core
	$(RUN) -m pytest -n auto --dist worksteal -m "not browser"

check: $(READY)             ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

lowest: .venv-lowest/.installed  ## every test at the lowest versions that pyproject.toml allows (minutes; not part of CI)
	.venv-lowest/bin/python -m pytest tests

mutants: $(READY)           ## break the library on purpose: do the tests notice? (minutes; not part of CI)
	$(RUN) -m scripts.mutants

results: $(READY) peers     ## run the table of results (hours; a rerun goes on), then write docs/results.md
	$(RUN) -m scripts.results run a a-other b c d sb3 zoo
	$(RUN) -m scripts.results write

tensorboard: $(READY)       ## look at the curves
	$(RUN) -m tensorboard.main --logdir runs

browser: $(VENV)/.browser   ## TensorBoard's pages in a headless Chromium (Debian: apt-get install chromium)
	$(RUN) -m pytest -m browser tests/test_browser.py

peers: .venv-peers/.installed

$(READY): pyproject.toml constraints.txt
	@echo "Installing rlce and the libraries of constraints.txt, PyTorch among them, into $(VENV): 1 to 3 minutes, 2 GB."
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[test]'
	@touch $(READY)

$(VENV)/.browser: $(READY)
	$(RUN) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[browser]'
	touch $@

# The lowest versions of pyproject.toml; torch and the tools as in constraints.txt.
.venv-lowest/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-lowest
	{ grep '^torch=' constraints.txt; grep -oE '"[a-z0-9-]+>=[0-9.]+"' pyproject.toml | tr -d '"' | sed 's/>=/==/'; \
	  grep -v '^#' constraints.txt; } | sort -s -u -t= -k1,1 > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet $(PIP_ARGS) -c .venv-lowest/constraints.txt -e '.[test]'
	touch $@

# What benchmarks compare with lives in an environment of its own.
.venv-peers/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[box2d]' stable-baselines3==2.9.2 skorch==1.4.0
	touch $@
