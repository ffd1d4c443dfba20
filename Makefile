# make lab: read the course in JupyterLab.   make quick: the fast tests.   make test: all tests.
# PYTHON=python3.12 picks a Python.
PYTHON ?= python3
BIN := .venv/bin
# Two lessons at a time, whose kernels take up to 1.5 GB each. With little memory: make test WORKERS=
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder
TOOLS_LOCK := tests/requirements.lock
# JupyterLab refuses to run as root (a container's only user) without this.
ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab app report quick test benchmark notebooks baseline colour qat rounding site read graded format lock venv \
    tools
.DEFAULT_GOAL := lab

lab: venv
	$(BIN)/jupyter lab $(ROOT_FLAG) notebooks/00_start_here.ipynb $(ARGS)

# Lesson 10's dashboard alone, as an app in the browser (ARGS=--no-browser only says where).
APP := quant_tutorial/web/app
app: venv
	JUPYTER_CONFIG_PATH=$(APP) JUPYTER_PATH=$(APP) $(BIN)/voila notebooks/10_quantization_lab.ipynb $(ARGS)

# A report on a model of your own: make report MODEL=model.keras DATA=data.npz ARGS="--labels y_test"
report: venv
	$(BIN)/python -m quant_tutorial report "$(MODEL)" --data "$(DATA)" $(ARGS)

# What needs no notebook and no browser, and is quick: run it first, and often.
quick: tools
	$(BIN)/python -m pytest -m "not slow" $(WORKERS) $(or $(ARGS),tests --ignore=tests/browser)

# Everything, every output of every notebook included.
test: tools
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

# What the course promises on speed, each figure beside its promise. Run nothing else meanwhile.
benchmark: tools
	$(BIN)/python -m pytest tests/benchmarks $(ARGS)

# Restart-and-Run-All for every notebook (or ARGS="notebooks/02_affine_quantization.ipynb"), outputs kept.
notebooks: tools
	$(BIN)/python tests/rerun_notebooks.py $(ARGS)

# Train the float baseline again, from its seed, and write its weights and figures into the package.
baseline: venv
	$(BIN)/python -m quant_tutorial.training

# Train the colour model again, the same way.
colour: venv
	$(BIN)/python -m quant_tutorial.training colour_digits

# Train the quantized models of lesson 08, and what they are compared with (about an hour and a half);
# what is there already stays. On a Dask cluster: make qat ARGS="--scheduler tcp://HOST:8786".
qat: venv
	$(BIN)/python -m quant_tutorial.qat.training $(ARGS)
	$(BIN)/python -m quant_tutorial.qat.control $(ARGS)

# Measure the rounding methods of lesson 11 (about twenty minutes); what is there already stays.
rounding: venv
	$(BIN)/python -m quant_tutorial.rounding.results $(ARGS)

# The web edition, to be read without a kernel: static pages in build/site.
site: tools
	$(BIN)/python -m quant_tutorial.web.build $(ARGS)

# The same, built where it is needed and served on this machine: all that needs no kernel.
read: tools
	$(BIN)/python -m quant_tutorial.web.serve $(ARGS)

# The exercises for nbgrader and Otter, with and without their solutions: build/graded.
graded: venv
	$(BIN)/python -m quant_tutorial.web.graded $(ARGS)

format: tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/deno fmt --quiet --config .deno.json

# After a change of the ranges in pyproject.toml: new exact pins for every supported Python and system.
COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header \
    --no-annotate --quiet $(ARGS)
lock: tools
	$(COMPILE) --extra checkout --output-file requirements.lock
	$(COMPILE) --extra test --extra site --extra cluster --constraint requirements.lock \
	    $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock) \
	    --output-file $(TOOLS_LOCK)

# --- The environment ---------------------------------------------------------------------------------

# The stamp is put down when all is installed. Its name stands for the Python and for the folder: for
# another one of either, .venv is made anew, as it is after an attempt that did not come to its end.
WHICH := import os, sys, zlib; print(zlib.crc32((sys.version + os.getcwd()).encode("utf-8")) & 0xffffffff)
STAMP := .venv/installed-$(shell $(PYTHON) -c '$(WHICH)')
TOOLS_STAMP := $(STAMP)-tools
# Debian and Ubuntu may ship a Python that cannot put pip into a new environment; its own pip can fill it.
NO_PIP = $(shell $(PYTHON) -c 'import ensurepip' 2>/dev/null || echo --without-pip)
PIP = $(if $(NO_PIP),$(PYTHON) -m pip --python $(BIN)/python,$(BIN)/python -m pip) \
    --disable-pip-version-check install --quiet
LAB_SETTINGS := .venv/share/jupyter/lab/settings/overrides.json

# Written for any Python, so that one that is too old or too new gets a clear sentence.
define CHECK_PYTHON
import re, sys
bounds = re.search('requires-python = ">=([0-9.]+),<([0-9.]+)"', open("pyproject.toml").read())
low, high = [tuple(int(part) for part in bound.split(".")) for bound in bounds.groups()]
if not low <= tuple(sys.version_info[:2]) < high:
    last = (high[0], high[1] - 1)
    sys.exit(
        "This is Python %d.%d, which is too %s: TensorFlow needs Python %d.%d to %d.%d.\n"
        "Install one of these and name it, for example: make %s PYTHON=python%d.%d"
        % (
            tuple(sys.version_info[:2])
            + ("old" if tuple(sys.version_info[:2]) < low else "new",)
            + low + last + (sys.argv[1],) + last
        )
    )
endef
export CHECK_PYTHON

venv: $(STAMP)

# What only tests, site and tools need.
tools: $(TOOLS_STAMP)

$(STAMP): pyproject.toml requirements.lock Makefile
	@$(PYTHON) -c "$$CHECK_PYTHON" $(firstword $(MAKECMDGOALS) lab)
	@echo "Installing the course into .venv (a download of 740 MB, a few minutes) …" >&2
	@test -f $@ || $(PYTHON) -m venv --clear $(NO_PIP) .venv
	@rm -f .venv/installed-*
	@$(PIP) --require-hashes --only-binary=:all: -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@# Matplotlib's first import lists the fonts and warns that it does: better here than in a page.
	@$(BIN)/python -c "import matplotlib.font_manager" >/dev/null 2>&1
	@# The course uses no network, so JupyterLab neither asks for news nor looks for its own updates.
	@mkdir -p $(dir $(LAB_SETTINGS))
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' >$(LAB_SETTINGS)
	@touch $@

$(TOOLS_STAMP): $(STAMP) $(TOOLS_LOCK)
	@echo "Installing what tests and site need into .venv (a download of 140 MB) …" >&2
	@$(PIP) --require-hashes --only-binary=:all: -r requirements.lock -r $(TOOLS_LOCK)
	@touch $@
