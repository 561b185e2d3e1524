# `make demo` and `make test` need Python 3.10 or newer and nothing else: each makes .venv, installs
# what constraints.txt pins, and does its job. A second run installs nothing.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
STAMP := .venv/installed

.PHONY: demo test clean

demo: $(STAMP)
	$(BIN)/python -m AmbiguousSegLib demo --out demo

test: $(STAMP)
	$(BIN)/python -m pytest

# torch first and alone: at its pinned version it satisfies every later requirement.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,slicer,figures,test]"
	$(BIN)/python -c "open('$(STAMP)', 'w').close()"

clean:
	$(PYTHON) -c "import shutil; [shutil.rmtree(p, ignore_errors=True) for p in ('.venv', 'demo')]"
