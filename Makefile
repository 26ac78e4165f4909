# make demo   the whole path on generated images, in minutes
# make test   style and the whole test suite
# make test-triton VERSION=3.9.0   the kernels' tests, and what their compilation takes, with another Triton
# make gpu    what needs a GPU: the paper's claims on all of CIFAR-10, speeds, the tests; what fails is named and the rest goes on
# All first make .venv and install into it what pyproject.toml asks for, in the versions of constraints.txt.

PYTHON ?= python3
TORCH ?= 2.13.0
# Where PyTorch keeps its CPU builds, asked only if the configured package sources have none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := .venv/bin/python -m pip --disable-pip-version-check
INSTALLED := .venv/installed

.PHONY: demo test test-triton gpu install clean
.DELETE_ON_ERROR:

demo: install
	.venv/bin/python -m experiments.demo

test: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pytest

VERSION ?= 3.9.0
test-triton: install
	$(PIP) install --quiet --no-deps --target .venv/triton-$(VERSION) triton==$(VERSION)
	PYTHONPATH=.venv/triton-$(VERSION) .venv/bin/python -m pytest tests/kernels
	PYTHONPATH=.venv/triton-$(VERSION) .venv/bin/python -m kernels.tools.offline

# In the order of what tells most, and a seed of each arm before the others: it may be stopped at any time and started again.
SWEEP := .venv/bin/python -m experiments.sweep scale=paper
gpu: install
	-$(SWEEP) experiment=accuracy 'only=[*-0]'
	-$(SWEEP) experiment=speedup 'only=[cifar10-*]'
	-$(SWEEP) experiment=accuracy
	-$(SWEEP) experiment=memory 'only=[cifar10-*]'
	-.venv/bin/python -m experiments.benchmark suite=decode decode.offline=false run_dir=runs/benchmark-decode-gpu overwrite=true
	-.venv/bin/python -m experiments.benchmark suite=fit dataset=cifar10 dataset.root=data/cifar10 run_dir=runs/benchmark-fit-gpu overwrite=true
	-.venv/bin/python -m experiments.report root=runs
	.venv/bin/python -m pytest

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one with PYTHON=python3.12"; exit 2; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@# A plain `torch` brings gigabytes of CUDA libraries; without an NVIDIA GPU on Linux they would serve nothing.
	@if .venv/bin/python -c 'import torch' 2>/dev/null; then :; \
	elif [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null; then $(PIP) install --quiet torch==$(TORCH); \
	else $(PIP) install --quiet torch==$(TORCH)+cpu 2>/dev/null \
	  || $(PIP) install --quiet torch==$(TORCH)+cpu --index-url $(TORCH_CPU_INDEX) 2>/dev/null \
	  || { echo "no CPU build of torch $(TORCH) found, installing the default one"; $(PIP) install --quiet torch==$(TORCH); }; fi
	$(PIP) install --quiet --constraint constraints.txt torch==$(TORCH) --editable '.[report,dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
