# `make rehearse` and `make test` each set everything up on a machine that has Python 3.11 and make.
PYTHON ?= python3.11
OUT ?= runs/rehearse
SEED ?= 0
BIN := .venv/bin
STAMP := .venv/.set-up
TORCH := .venv/.torch

.PHONY: setup rehearse test matrix check format bench clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	sh .ci/gl
	sh .ci/usb
	touch $@

rehearse: setup
	$(BIN)/segue rehearse --preset quick --seed $(SEED) --out $(OUT)

# What image networks are compared with; only tests need it, and it lies in a folder of its own: TensorBoard's writer imports
# PyTorch where it finds it, which takes each process longer. The second one's own demand for the first would undo a CPU build.
$(TORCH): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target .venv/torch torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target .venv/torch --no-deps torchvision==0.28.0
	touch $@

test: setup $(TORCH)
	$(BIN)/python -m pytest -n 3 --dist worksteal

# Every combination of an offline method, a bridge and an online method; `make test` takes so few that each occurs.
matrix: setup
	SEGUE_MATRIX=all $(BIN)/python -m pytest -n 2 tests/agent/test_bridges.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_imports.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/segue bench update
	$(BIN)/segue bench sim
	$(BIN)/segue bench wire
	$(BIN)/segue bench image --repeats 3
	$(BIN)/segue bench realtime --repeats 1
	$(BIN)/segue bench memory --repeats 1
	$(BIN)/segue bench outage --repeats 1
	$(BIN)/segue bench watchdog

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
