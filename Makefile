# `make demo` and `make test` need Python 3.10 or newer and nothing else: each makes .venv, installs
# what constraints.txt pins, and does its job. A second run installs nothing.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
STAMP := .venv/installed
PYTEST := $(BIN)/python -m pytest
TWO := -n 2 --dist loadfile --no-loadscope-reorder
# Tests start some hundred processes: where no bytecode may be kept, each compiles the whole library anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick lint address clean

# A phantom volume, 8 segmentations of it by the bundled model, and a scene for Slicer.
demo: $(STAMP)
	$(BIN)/python -m AmbiguousSegLib phantom --volume --out demo/phantom
	$(BIN)/python AmbiguousSeg/Scripts/batch.py demo/phantom/image.nrrd --model phantom-cimd-64 --samples 8 --out demo/results --mrb --overwrite
	@echo "Look at  demo/results/image/overview.png  and open  demo/results/image/scene.mrb  in 3D Slicer."

# Everything: lint, then all tests on two processes, each of which has an application of Slicer's stand-in of its own.
test: $(STAMP) lint
	$(PYTEST) $(TWO)

# What a change is tried with: under two minutes on two idle cores.
quick: $(STAMP)
	$(PYTEST) -m "not slicer and not slow and not wheel" $(TWO) -q

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# The repository's address, which stands in AmbiguousSegLib/__init__.py, in the files that cannot read it from there.
address:
	$(PYTHON) Testing/repository_address.py

# torch first and alone: at its pinned version it satisfies every later requirement.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,slicer,figures,dicom,test,lint]"
	$(BIN)/python -c "open('$(STAMP)', 'w').close()"

clean:
	$(PYTHON) -c "import shutil; [shutil.rmtree(p, ignore_errors=True) for p in ('.venv', 'demo')]"
