# Each target sets up its own .venv; nothing else needs to be prepared.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,docs,fast,onnx,cluster,search,lightning,transformers

.PHONY: demo test test-fast durations constraints lint types fuzz bad-inputs faults docs readme check benchmarks benchmarks-quick clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || (echo "error: python3-venv is missing: sudo apt-get install python3-venv" && exit 1)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	$(BIN)/sparelu methods > /dev/null  # the first list imports every method; the next ones read what it kept
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

# The published methods that benchmarks compare with are packages of others.
$(VENV)/ready-benchmarks: $(VENV)/ready-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS),benchmarks]"
	touch $@

demo: $(VENV)/ready
	$(BIN)/sparelu fit digits --path --budgets 50,100,200,500,1000,2000 --hidden 50 --folds 2 --out runs/demo-$$(date +%Y%m%d-%H%M%S)

test: $(VENV)/ready-dev
	$(BIN)/python -m pytest --numprocesses 2

# Without the tests that were measured to take a second of processor time or more (tests/durations.tsv).
test-fast: $(VENV)/ready-dev
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow and not seconds"

# Measures every test anew, on one process.
durations: $(VENV)/ready-dev
	$(BIN)/python -m pytest -q -p tests.durations

# What pip resolves today, in a fresh environment, and the hashes of its files: only torch stays as it is.
constraints:
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	grep '^torch==' constraints.txt > build/torch.txt
	build/constraints/bin/pip install --quiet --constraint build/torch.txt --editable ".[$(EXTRAS),benchmarks]"
	(grep '^#' constraints.txt; build/constraints/bin/pip freeze --all --exclude-editable \
	  | grep -v '^pip==' | sed 's/+cpu$$//' | LC_ALL=C sort -f) > build/constraints.txt
	mv build/constraints.txt constraints.txt
	build/constraints/bin/pip install --quiet --dry-run --ignore-installed --report build/report.json \
	  --constraint constraints.txt --editable ".[$(EXTRAS),benchmarks]"
	$(PYTHON) .ci/lock.py build/report.json locked.txt

# Forged files for every reader; COUNT of them over all.
COUNT ?= 1000000
fuzz: $(VENV)/ready-dev
	$(BIN)/python -m tests.fuzz --count $(COUNT)

# Random command lines on random files; BAD of them.
BAD ?= 3000
bad-inputs: $(VENV)/ready-dev
	BAD_INPUTS=$(BAD) $(BIN)/python -m pytest -q tests/cli/test_bad_inputs.py

# Full disks and kills at the writes of every command; FAULTS and KILLS of them.
FAULTS ?= 300
KILLS ?= 200
faults: $(VENV)/ready-dev
	FAULTS=$(FAULTS) KILLS=$(KILLS) $(BIN)/python -m pytest -q tests/cli/test_faults.py

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready-dev
	$(BIN)/mypy

# The site, in build/site: strict, no broken link, nothing loaded from elsewhere. Notebooks and examples are run.
docs: $(VENV)/ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/python docs/site/check_offline.py build/site

# Every command and program of README.md and docs/.
readme: $(VENV)/ready-dev
	$(BIN)/python tests/readme.py

check: lint types test docs readme

# Measures what is missing in benchmarks/results and writes benchmarks/RESULTS.md; stops after MINUTES, then goes on.
MINUTES ?= inf
benchmarks: $(VENV)/ready-benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/board.py --run --limit-minutes $(MINUTES)

benchmarks-quick: $(VENV)/ready-benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/board.py --run --quick --rerun

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
