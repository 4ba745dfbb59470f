# Everything installs itself into .venv, and again only when pyproject.toml or constraints.txt change.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.installed

.PHONY: cartpole classify test test-slow check tensorboard

cartpole: $(READY)          ## train PPO on CartPole-v1, then evaluate the saved agent
	$(RUN) -m scripts.train_cartpole --log-dir runs/cartpole
	$(RUN) -m scripts.evaluate runs/cartpole

classify: $(READY)          ## train a classifier on scikit-learn's digits
	$(RUN) -m scripts.train_classifier --log-dir runs/digits

test: $(READY)              ## every test, with the learning tests in their short form
	$(RUN) -m pytest

test-slow: $(READY)         ## every test in full
	RLCE_SLOW=1 $(RUN) -m pytest

check: $(READY)             ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

tensorboard: $(READY)       ## look at the curves
	$(RUN) -m tensorboard.main --logdir runs

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[test]'
	touch $(READY)
