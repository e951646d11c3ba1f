# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= $(or $(WAVEFOLD_DATA),../shared/data)
BEATS := $(DATA)/mitbih_beats

.PHONY: demo test test-all check bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

# the main job: on real heartbeats where they are, on simulated ones where they are not
demo: .venv/installed
ifneq ($(wildcard $(BEATS)/train.csv.gz),)
	@echo "demo on real input: $(BEATS) (MIT-BIH heartbeats, 3 epochs of the recipe's 1 net)"
	$(BIN)/wavefold train heartbeat --data $(BEATS) --out demo/run --fresh --set 'member=[{model="net1"}]' --set 'stage.*.epochs=3'
	$(BIN)/wavefold predict demo/run $(BEATS)/train.csv.gz --out demo/submission.csv
else
	@echo "demo on simulated input: $(BEATS)/train.csv.gz is not there"
	rm -rf demo/data
	$(BIN)/wavefold simulate heartbeat demo/data --count 3000 --seed 1
	$(BIN)/wavefold train heartbeat --data demo/data --out demo/run --fresh --set 'member=[{model="net1"}]' --set 'stage.*.epochs=8'
	$(BIN)/wavefold predict demo/run demo/data --out demo/submission.csv
endif

# compiled modules are kept, which some environments turn off: the tests start hundreds of processes
test test-all: export PYTHONDONTWRITEBYTECODE =
test test-all: export OMP_WAIT_POLICY = passive
test test-all: export OMP_NUM_THREADS = 1
test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# also what takes long: clusters that die, stop and fill their disks
test-all: .venv/installed
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -m "slow or not slow"

# what to run before a commit: mends what can be mended
check: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python benchmarks/parse.py
	$(BIN)/python benchmarks/layout.py

clean:
	rm -rf .venv demo runs
