# make lab: read the course in JupyterLab.   make test: run every test.   PYTHON=python3.12 picks a Python.
PYTHON ?= python3
BIN := .venv/bin
# JupyterLab refuses to run as root (a container's only user) without this.
ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab app test benchmark notebooks baseline qat site format lock venv
.DEFAULT_GOAL := lab

lab: venv
	$(BIN)/jupyter lab $(ROOT_FLAG) notebooks/00_start_here.ipynb $(ARGS)

# Lesson 10's dashboard alone, as an app in the browser (ARGS=--no-browser only says where).
app: venv
	JUPYTER_CONFIG_PATH=.make JUPYTER_PATH=.make $(BIN)/voila notebooks/10_quantization_lab.ipynb $(ARGS)

test: venv
	$(BIN)/python -m pytest $(ARGS)

benchmark: venv
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-columns=min,median,iqr,rounds $(ARGS)

# Restart-and-Run-All for every notebook (or ARGS="notebooks/02_affine_quantization.ipynb"), outputs kept.
notebooks: venv
	$(BIN)/python tests/rerun_notebooks.py $(ARGS)

# Train the float baseline again, from its seed, and write its weights and figures into the package.
baseline: venv
	$(BIN)/python -m quant_tutorial.models

# Train the quantized models of lesson 08 (about half an hour); what is there already stays.
qat: venv
	$(BIN)/python -m quant_tutorial.qat_training

# The web edition, to be read without a kernel: static pages in build/site.
site: venv
	$(BIN)/python .site/build.py $(ARGS)

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# After a change of the ranges in pyproject.toml: new exact pins for every supported Python and system.
lock: venv
	$(BIN)/uv pip compile pyproject.toml --extra test --extra site --universal --generate-hashes \
	    --no-header --no-annotate --quiet $(ARGS) --output-file requirements.lock

venv:
	@MAKE_GOAL="$(firstword $(MAKECMDGOALS))" $(PYTHON) .make/environment.py
