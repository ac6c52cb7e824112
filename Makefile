# The commands of this repository. `make course` and `make test` also work in a fresh clone.
PYTHON ?= python3
PROFILE ?= cpu
LESSON ?=
NAME ?=

VENV := .venv
# Not `:=`: `test-floors` has an environment of its own.
PY = $(VENV)/bin/python
PIP = $(PY) -m pip --disable-pip-version-check install --quiet
TORCH := $(shell grep '^torch==' constraints.txt)
INDEX := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))

# Written when an installation is complete; its name holds a checksum of what was asked for.
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')

.PHONY: course setup test test-floors notebooks ranges study lab lint offline-kit clean

course: setup
	@$(PY) -m finetune_utils run $(LESSON) --profile $(PROFILE) --output build/$(PROFILE)

setup: $(READY)
	@$(PY) -m finetune_utils setup

# An environment that was never finished is made again. One environment serves learners and tests: the
# tools for tests add about half a minute to the installation.
$(READY):
	@if [ -d $(VENV) ] && ! ls $(VENV)/.ready-* >/dev/null 2>&1; then \
		echo "$(VENV) is not complete: making it again."; rm -rf $(VENV); fi
	@test -d $(VENV) || { echo "Making $(VENV) with $(PYTHON) and installing the packages (a few minutes) ..."; \
		$(PYTHON) -m venv $(VENV); }
	@rm -f $(VENV)/.ready-*
	@$(PIP) $(INDEX) $(TORCH)
	@$(PIP) -c constraints.txt -e ".[course,dev]"
	@touch $@

test: setup
	@$(PY) -m pytest -n 2 --dist worksteal tests/unit tests/notebooks

# The unit tests with the versions that Colab has; run by hand.
test-floors: VENV := .venv-floors
test-floors:
	@test -d .venv-floors || $(PYTHON) -m venv .venv-floors
	@$(PIP) $(INDEX) $(TORCH)
	@$(PIP) -c tests/floors.txt -e ".[course]" pytest pytest-timeout hypothesis
	@$(PY) -m pytest tests/unit

notebooks: setup
	@nice -n 5 $(PY) -m finetune_utils build --store $(LESSON)

ranges: setup
	@nice -n 5 $(PY) -m finetune_utils ranges $(LESSON) --profile $(PROFILE)

study: setup
	@test -n "$(NAME)" || { echo "make study NAME=...: choose from" $(basename $(notdir $(wildcard notebooks/studies/*.py))); exit 2; }
	@nice -n 5 $(PY) notebooks/studies/$(NAME).py

lab: setup
	@$(PY) -m jupyter lab --notebook-dir=notebooks

# Packages, models and the course in one folder, for a room without network.
offline-kit: setup
	@$(PY) -m finetune_utils offline-kit --output build/offline-kit $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

lint: $(READY)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m finetune_utils build --check

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis .venv-floors *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
