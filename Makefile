# Everything is set up in .venv, from nothing but Python 3.10+ and pip; a second run installs nothing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/demo-installed
	$(BIN)/fogguard demo --out demo

test: .venv/dev-installed
	$(BIN)/python -m pytest $(TESTS)

lint: .venv/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 -p broker -p edge_agent
	PYTHONPATH=. $(BIN)/lint-imports

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("fogguard needs Python 3.10 or later" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv .venv

.venv/demo-installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv, once; this takes a few minutes"
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[demo]'
	touch $@

.venv/dev-installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv, once; this takes a few minutes"
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[all,dev]'
	touch $@ .venv/demo-installed

clean:
	rm -rf .venv demo build dist *.egg-info
