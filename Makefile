# make demo   showers from the shipped model, compared with shipped Geant4 showers: demo/report/index.html
# make test   the tests; those that run Geant4 are skipped, saying so, where its tables are missing
# make lint   style and types
# make bench  speed on this machine
# make docs   the pages of docs/ that are made from the code
# make shipped   the shipped models and reference showers again, from nothing: Geant4's tables and six hours of two cores
# make results   the figures of docs/results.md on caloclouds-ild again, from what `make shipped` left in data/
# make zero-shot the figures of docs/results.md on anycalo-base in detectors that it never saw
# make few-showers  fine-tuning of anycalo-base with a hundred showers (after `make zero-shot`): docs/results-transfer.md
# make transfer  the small studies of docs/results-transfer.md
# make one-step  docs/results-one-step.md: one network evaluation a point, every method trained and measured
# make gaam   the tables of docs/results-gaam.md; another point-cloud model in them: make gaam BASE=runs/my-model
#
# Everything is installed once, into .venv. Choose another Python with PYTHON=python3.12, and another build of
# PyTorch with TORCH='torch==2.13.0 --index-url ...' (any arguments of pip install).

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.anycalo
SHELL = /bin/bash

.PHONY: demo test lint bench docs shipped results zero-shot few-showers transfer one-step gaam install
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

PHOTONS = $(BIN)/anycalo simulate ild-ecal --particle gamma --energy 10GeV:90GeV
REFERENCE = src/anycalo/data/ild-photons-reference.h5
SHIPPED = src/anycalo/models/shipped/caloclouds-ild
SHIPPED_BASE = src/anycalo/models/shipped/anycalo-base

data/ild-photons-train.h5: | $(INSTALLED)
	$(PHOTONS) -n 9000 --spectrum log --seed 101 --out $@

data/ild-photons-test.h5: | $(INSTALLED)
	$(PHOTONS) -n 2000 --seed 202 --out $@

# Showers that no shipped model was trained on.
data/ild-photons-train-1000.h5: | $(INSTALLED)
	$(PHOTONS) -n 1000 --spectrum log --seed 404 --out $@

data/ild-photons-3000.h5: | $(INSTALLED)
	$(PHOTONS) -n 3000 --spectrum log --seed 404 --out $@

data/zoo: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo zoo-train -n 10000 --out $@

data/zoo-validation: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo zoo-validation -n 1000 --out $@

data/zoo-gaps: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo zoo-gaps -n 7500 --out $@

data/zoo-fields: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo zoo-fields -n 6000 --out $@

data/zoo-many: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo zoo-many -n 15000 --out $@

data/zoo-sheets: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo zoo-sheets -n 5400 --out $@

data/zoo-air data/zoo-silicon: data/%: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo $* -n 3000 --out $@

data/zoo-thick: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo zoo-thick -n 6000 --out $@

data/zoo-unseen: | $(INSTALLED)
	$(BIN)/anycalo simulate --zoo zoo-unseen -n 1440 --out $@

shipped: data/ild-photons-train.h5 data/zoo data/zoo-gaps data/zoo-fields data/zoo-many data/zoo-sheets \
	data/zoo-air data/zoo-silicon data/zoo-thick
	$(PHOTONS) -n 500 --seed 303 --compact --out $(REFERENCE) --overwrite
	$(BIN)/anycalo train caloclouds --data data/ild-photons-train.h5 --out runs/caloclouds-ild --threads 1
	mkdir -p $(SHIPPED)
	cp runs/caloclouds-ild/model.json runs/caloclouds-ild/model.safetensors $(SHIPPED)
	$(BIN)/anycalo train anycalo --data data/zoo --data data/zoo-gaps --data data/zoo-fields --data data/zoo-many \
		--data data/zoo-sheets --data data/zoo-air --data data/zoo-silicon --data data/zoo-thick --out runs/anycalo-base --threads 1
	mkdir -p $(SHIPPED_BASE)
	cp runs/anycalo-base/model.json runs/anycalo-base/model.safetensors $(SHIPPED_BASE)

# Once with the test showers' own particles, once with particles drawn anew: see docs/observables.md on matched samples.
results: data/ild-photons-test.h5
	$(BIN)/anycalo generate caloclouds-ild --like data/ild-photons-test.h5 --seed 1 --out runs/matched.h5 --overwrite
	$(BIN)/anycalo evaluate data/ild-photons-test.h5 runs/matched.h5 --out runs/report-matched --overwrite
	$(BIN)/anycalo generate caloclouds-ild -n 2000 --energy 10GeV:90GeV --seed 2 --out runs/independent.h5 --overwrite
	$(BIN)/anycalo evaluate data/ild-photons-test.h5 runs/independent.h5 --out runs/report-independent --overwrite
	$(BIN)/python tools/results_table.py runs/report-matched/results.json
	$(BIN)/python tools/results_table.py runs/report-independent/results.json

# Photons and electrons in detectors that were never trained on; how many showers of each, and the seed.
ANY = --particle gamma,electron --energy 1GeV:100GeV --spectrum log --max-angle 45deg
HELD_OUT = fe-scint/2000/71 testem3/2000/72 pb-scint/400/73 cu-si/2000/81 calochallenge-3/2000/81 u-scint/2000/81 atlas-like/300/74

TESTS = $(foreach entry,$(HELD_OUT),data/$(firstword $(subst /, ,$(entry)))-test.h5) data/ild-photons-test.h5
numbers = $(subst /, ,$(filter $(1)/%,$(HELD_OUT)))

data/%-test.h5: | $(INSTALLED)
	$(BIN)/anycalo simulate $* $(ANY) -n $(word 2,$(call numbers,$*)) --seed $(word 3,$(call numbers,$*)) --out $@

zero-shot: $(TESTS) data/zoo-unseen
	$(BIN)/python benchmarks/unseen_detectors.py data/zoo-unseen anycalo-base --out runs/unseen
	$(BIN)/python benchmarks/zero_shot.py anycalo-base $(TESTS) --out runs/zero-shot

# Fine-tuning with a hundred showers, and the study of ways to do it, which goes on where it was stopped.
THOUSANDS = $(foreach name,cu-si fe-scint testem3,data/$(name)-train-1000.h5 data/$(name)-test.h5)
HUNDRED = fe-scint:data/fe-scint-train-1000.h5:data/fe-scint-test.h5 \
	testem3:data/testem3-train-1000.h5:data/testem3-test.h5 cu-si:data/cu-si-train-1000.h5:data/cu-si-test.h5 \
	ild-ecal:data/ild-photons-train-1000.h5:data/ild-photons-test.h5
ELECTRONS = $(BIN)/anycalo simulate calochallenge-3 --particle electron --energy 1GeV:100GeV --spectrum log

data/%-train.h5: | $(INSTALLED)
	$(BIN)/anycalo simulate $* $(ANY) -n 150 --seed 75 --out $@

data/%-train-1000.h5: | $(INSTALLED)
	$(BIN)/anycalo simulate $* $(ANY) -n 1000 --seed $(if $(filter cu-si,$*),85,86) --out $@

data/calochallenge-3-electrons-train.h5: | $(INSTALLED)
	$(ELECTRONS) -n 600 --seed 301 --out $@

data/calochallenge-3-electrons-test.h5: | $(INSTALLED)
	$(ELECTRONS) -n 2000 --seed 302 --out $@

few-showers: data/ild-photons-train.h5 data/ild-photons-train-1000.h5 data/ild-photons-test.h5 $(THOUSANDS) \
		data/fe-scint-train.h5 data/testem3-train.h5 data/pb-scint-train.h5 data/calochallenge-3-train.h5 data/zoo-validation
	$(BIN)/python benchmarks/few_showers.py $(BASE) data/zoo-validation data/ild-photons-train.h5 data/fe-scint-train.h5 \
		data/testem3-train.h5 data/pb-scint-train.h5 data/calochallenge-3-train.h5 --out runs/few-showers
	rm -rf runs/hundred
	for entry in $(HUNDRED); do \
		IFS=: read name training truth <<< "$$entry"; \
		$(BIN)/anycalo finetune $(BASE) --data $$training -n 100 --out runs/hundred/$$name --threads 1 && \
		$(BIN)/anycalo generate runs/hundred/$$name --like $$truth --seed 1 --out runs/hundred/$$name.h5 && \
		$(BIN)/anycalo evaluate $$truth runs/hundred/$$name.h5 --out runs/hundred/report-$$name || exit 1; \
	done

transfer: data/calochallenge-3-electrons-train.h5 data/calochallenge-3-electrons-test.h5 $(THOUSANDS)
	$(BIN)/anycalo study benchmarks/transfer-small.toml --out runs/transfer-caloclouds --threads 1
	$(BIN)/anycalo study benchmarks/transfer-anycalo.toml --out runs/transfer-anycalo --threads 1

one-step: data/ild-photons-3000.h5 data/ild-photons-test.h5 data/zoo data/zoo-gaps data/zoo-validation
	$(BIN)/python benchmarks/one_step.py all
	$(BIN)/python benchmarks/one_step_anycalo.py all

# Cell-wise models, and point-cloud models projected onto the same cells. What is trained and made already is not made
# again, but for the point-cloud models; BASE is another of them.
BASE = anycalo-base
GAAM = runs/gaam
POINTS = --detector atlas-like --energy 65GeV -n 600 --seed 1 --threads 1 --overwrite --out

data/atlas-65gev.h5: | $(INSTALLED)
	$(BIN)/anycalo simulate atlas-like --energy 65GeV -n 3000 --seed 6501 --merge 0.5mm --cut 0.7mm --out $@

gaam: data/atlas-65gev.h5
	$(BIN)/python benchmarks/gaam.py $< --out $(GAAM) --only-divide
	rm -rf $(GAAM)/fine-tuned
	$(BIN)/anycalo finetune $(BASE) --data $(GAAM)/training.h5 --method full --steps 2000 --learning-rate 1e-3 --out $(GAAM)/fine-tuned --threads 1
	$(BIN)/anycalo generate $(BASE) $(POINTS) $(GAAM)/base.h5
	$(BIN)/anycalo generate $(GAAM)/fine-tuned $(POINTS) $(GAAM)/fine-tuned.h5
	$(BIN)/python benchmarks/gaam.py $< --out $(GAAM) --n 600 \
		--with base=$(GAAM)/base.h5 --with fine-tuned=$(GAAM)/fine-tuned.h5
