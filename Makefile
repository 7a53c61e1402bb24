# make demo   showers from the shipped model, compared with shipped Geant4 showers: demo/report/index.html
# make test   the tests; those that run Geant4 are skipped, saying so, where its tables are missing
# make lint   style and types
# make bench  speed on this machine
# make docs   the pages of docs/ that are made from the code
#
# Everything is installed once, into .venv. Choose another Python with PYTHON=python3.12, and another build of
# PyTorch with TORCH='torch==2.13.0 --index-url ...' (any arguments of pip install).

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.anycalo

.PHONY: demo test lint bench docs install
.DELETE_ON_ERROR:

install: $(INSTALLED)

# torch goes first and alone: its build is the user's choice, and nothing that follows may change it.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "AnyCalo needs Python 3.11 or later; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install $(TORCH)
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/anycalo generate caloclouds-ild --like ild-photons-reference --out demo/fast.h5 --seed 1 --overwrite
	$(BIN)/anycalo show demo/fast.h5 --event 0 --out demo/event --overwrite
	$(BIN)/anycalo evaluate ild-photons-reference demo/fast.h5 --out demo/report --overwrite
	@echo "Open $(CURDIR)/demo/report/index.html and $(CURDIR)/demo/event.html in a browser."

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m pytest benchmarks
	@if $(BIN)/python -c 'from anycalo.simulate import find_data; find_data()' 2>/dev/null; then \
		$(BIN)/python benchmarks/simulation_overhead.py; \
	else echo "No Geant4 tables: the overhead of the simulation is not measured."; fi

docs: $(INSTALLED)
	$(BIN)/python tools/write_command_line_page.py docs/command-line.md
