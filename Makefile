# Every target but gpu makes .venv if it is missing and installs what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# without --quiet, which would not count warnings
SITE = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: demo test test-all check format fuzz bench bench-quick bench-against bench-first-calls bench-recurrences bench-many bench-networks bench-gradbench bench-beyond parameter-map auto-grid readme report docs notebook dist-check gpu gpu-emulated clean

demo: $(VENV)/.demo
	$(BIN)/fastpoly demo

test: $(VENV)/.test
	# a process for each core, each of them with one thread
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m "not slow"
	OMP_NUM_THREADS=1 $(BIN)/pytest bench -n auto --dist worksteal --benchmark-disable -q -m "not slow"

test-all: $(VENV)/.test $(VENV)/.notebook
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal
	$(BIN)/pytest bench --benchmark-disable -q

check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python bench/readme.py --check
	$(SITE)

format: $(VENV)/.check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# random losses, fused and eager, new ones each time; SECONDS= for how long, 600 if not told
fuzz: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzzer.py --seconds $(or $(SECONDS),600)

# every figure, into bench/results/<machine>.json; a quarter of an hour on 2 cores
bench: $(VENV)/.bench
	$(BIN)/pytest bench --results -q
	$(BIN)/pytest -q tests/test_fidelity.py --fidelity=bench/results/fidelity.json

# fewer rounds and rows, into bench/results/quick.json
bench-quick: $(VENV)/.bench
	$(BIN)/pytest bench --results --quick -q

# what every backend takes on a grid of losses, and whether auto takes the right one; half an hour on 2 cores, resumable
auto-grid: $(VENV)/.bench
	PYTHONPATH=tests $(BIN)/python bench/auto_grid.py
	PYTHONPATH=tests $(BIN)/python bench/auto_grid.py --table

# what needs a CUDA GPU, on the Python that is active: PYTHON=... names another; LIMIT= seconds, 335 if not told. What
# is there is not done again; results go to bench/results/<card>.json, or to $$OUT if that is set
gpu:
	PYTHONPATH=.:kernels:tests:bench:$(PYTHONPATH) $(PYTHON) -m gpu $(if $(LIMIT),--limit $(LIMIT))

# all of it at tiny sizes without a GPU, on a device that is emulated; nothing is kept
gpu-emulated: $(VENV)/.test
	FASTPOLY_EMULATED=1 $(MAKE) gpu PYTHON=$(BIN)/python

# a step of every model of the zoo, in the commit REV and in this tree
bench-against: $(VENV)/.bench
	$(BIN)/python bench/against.py $(REV)

# the first descent of every model of the zoo in a fresh process, beside JAX's; some minutes
bench-first-calls: $(VENV)/.bench
	$(BIN)/python bench/first_calls.py

# losses with a loop over time, beside JAX's scan and CasADi's C; some minutes, and a gcc
bench-recurrences: $(VENV)/.bench
	$(BIN)/python bench/recurrences.py

# many small problems at once, beside JAX's vmap, SciPy's loop and optimistix; a few minutes
bench-many: $(VENV)/.bench
	PYTHONPATH=bench $(BIN)/python bench/many.py

# when a second process pays, and what 1,000 of them would do: a model made of parts that are measured; dask; five minutes
bench-beyond: $(VENV)/.bench
	PYTHONPATH=bench $(BIN)/python bench/group.py
	PYTHONPATH=bench $(BIN)/python bench/scale_model.py
	$(BIN)/python bench/cluster.py

# docs/parameter_map.png: a fit for every pixel of an image
parameter-map: $(VENV)/.bench
	$(BIN)/python bench/parameter_map.py

# networks and other products of matrices, beside eager torch and JAX, on two threads each; some minutes
bench-networks: $(VENV)/.bench
	PYTHONPATH=tests $(BIN)/python bench/networks.py
	PYTHONPATH=tests $(BIN)/python bench/networks.py --others --threads 1

# GradBench's problems, one gradient at a call, beside JAX and eager torch; some minutes
bench-gradbench: $(VENV)/.bench
	PYTHONPATH=tests $(BIN)/python bench/gradients.py

# the tables and pictures of README.md and docs/, from bench/results/
readme: $(VENV)/.bench
	$(BIN)/python bench/readme.py

# one page of the newest results of each device, report.html
report: $(VENV)/.bench
	PYTHONPATH=bench $(BIN)/python -m report

# the pages as a site, site/index.html; it needs no network, and no link may lead nowhere
docs: $(VENV)/.docs
	$(SITE)

# docs/post.ipynb, from docs/post.md, run from top to bottom; a minute
notebook: $(VENV)/.notebook
	$(BIN)/python docs/notebook.py

# the wheel and the sdist, built into dist/ and looked at
dist-check: $(VENV)/.dist
	rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

clean:
	rm -rf $(VENV) site dist fastpoly-demo fastpoly-profile .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of extras; a change in what is needed installs again.
$(VENV)/.demo: EXTRAS = torch,cli,plot
$(VENV)/.test: EXTRAS = test
$(VENV)/.check: EXTRAS = test,check,docs
$(VENV)/.bench: EXTRAS = test,bench
$(VENV)/.docs: EXTRAS = docs
$(VENV)/.notebook: EXTRAS = notebook
$(VENV)/.dist: EXTRAS = dist
$(VENV)/.%: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
