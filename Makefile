# Everything a newcomer or CI needs. `make install` sets up; the other targets call it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

TEACHER_ARGS := $(if $(TEACHER_URL),--set models.teacher.kind=openai --set models.teacher.base_url=$(TEACHER_URL) \
	--set models.teacher.model=$(TEACHER_MODEL) --set models.judge.structured=auto --trust)
LIVE_ARGS := $(if $(LIVE),--set ledger.recordings=[])

.PHONY: install install-dev browser quickstart small ablation test test-slow check lint types imports twice record clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing tapir and what it needs into $(VENV) (a few minutes the first time)"
	$(PIP) install -e '.[local,studio]'
	@touch $@

install-dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -e '.[local,eval,studio,ray,dev]'
	@touch $@

quickstart: install
	$(BIN)/tapir run quickstart --out runs/quickstart $(TEACHER_ARGS) $(LIVE_ARGS)

small: install
	$(BIN)/tapir run small --out runs/small $(TEACHER_ARGS) $(LIVE_ARGS)

# Table 5 in small: six variants, three training seeds
ablation: install
	$(BIN)/tapir ablate ablation-small --out runs/ablation-small $(TEACHER_ARGS) $(LIVE_ARGS)

# Two fresh live runs, compared table by table: make twice [RECIPE=quickstart]
twice: install
	$(BIN)/python scripts/twice.py $(RECIPE)

record: install
	$(BIN)/python scripts/record.py

# Debian's Chromium where it may be installed; the tests marked `browser` are skipped where it cannot.
browser:
	@scripts/install_browser.sh

test: install-dev browser
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-slow: install-dev
	$(BIN)/python -m pytest -m slow

lint: install-dev
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/ruff format --check src tests benchmarks scripts

types: install-dev
	$(BIN)/pyright

imports: install-dev
	$(BIN)/lint-imports

check: lint types imports test

clean:
	rm -rf $(VENV) build dist
