# `make parity` and `make test` on a fresh machine: only Python 3.10 to 3.12 and make are needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup

# Everything that is built lies in build/, where `make clean` finds it; elsewhere it is the user's cache folder.
export WHISPER_PARITY_CACHE ?= $(CURDIR)/build/cache

MICRO_WORK ?= build/micro
# Test files side by side; two fit 2 cores and 8 GiB.
WORKERS ?= 2

# The stages and clips of `make parity-base`: the recorded clips beside the project where they are, else yours.
BASE_STAGES ?= whisper,pytorch,torchscript,tflite,tflite:int8,dla:simulated
CLIPS ?= $(wildcard ../shared/audio)

.PHONY: setup names parity parity-base gate quick demo test runner micro lint clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)  ## create .venv with pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

parity: $(STAMP)  ## judge every stage on the default clips
	$(BIN)/python -m pytest -m parity parity.toml

gate: $(STAMP)  ## the same, and the whole run held against the rules and the approved result
	$(BIN)/python -m pytest -m parity --parity-gate parity.toml

parity-base: $(STAMP)  ## judge every stage on the real weights of Whisper base: make parity-base CLIPS=FOLDER
	@test -n "$(CLIPS)" || { echo "parity-base: no clips: make parity-base CLIPS=FOLDER with recordings of yours" >&2; exit 2; }
	@checkpoint="$$($(BIN)/python -m whisper_parity.fixtures.base)" || exit $$?; \
	$(BIN)/parity run --checkpoint "$$checkpoint" --clips "$(CLIPS)" --stages "$(BASE_STAGES)"

demo: $(STAMP)  ## the same at the terminal, without pytest
	$(BIN)/parity demo

runner: $(STAMP)  ## build the device runner for this machine and for aarch64 boards
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev,aarch64]'
	$(BIN)/parity device runner --target host,aarch64

quick: $(STAMP)  ## unit and property tests: a minute on 2 cores
	$(BIN)/python -m pytest tests/unit tests/property -n $(WORKERS) --dist loadfile

# In the order of the folders, which puts long files first: else the last ones run alone on one core.
test: $(STAMP)  ## the whole test suite (what it tests is `make parity`)
	$(BIN)/python -m pytest -m "not parity" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

micro: $(STAMP)  ## remake the micro checkpoint and the clips (about an hour and a half on 2 cores; needs espeak-ng)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev,micro]'
	$(BIN)/python -m whisper_parity.fixtures.micro.render --work $(MICRO_WORK)
	$(BIN)/python -m whisper_parity.fixtures.micro.train --work $(MICRO_WORK)
	$(BIN)/python -m whisper_parity.fixtures.micro.export --work $(MICRO_WORK)
	$(BIN)/python -m whisper_parity.fixtures.micro.clips
	$(BIN)/python -m whisper_parity.fixtures.micro.heldout --work $(MICRO_WORK)
	$(BIN)/python -m whisper_parity.fixtures.micro.card --work $(MICRO_WORK)
	$(BIN)/python -m whisper_parity.fixtures.micro.evaluate

names: $(STAMP)  ## the packages under their import name, for tools that read sources: mypy, editors
	@mkdir -p build/names/whisper_parity
	@cd build/names/whisper_parity && find . -type l -delete && ln -s ../../../harness/* ../../../backends ../../../fixtures .

lint: names  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/contracts.py

clean:  ## remove everything that was built, .venv aside
	rm -rf build
