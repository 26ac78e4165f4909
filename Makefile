# make demo   the whole path on generated images, in minutes
# make test   style and the whole test suite
# make test-triton VERSION=3.9.0   the kernels' tests, and what their compilation takes, with another Triton
# make reproduce PRESET=cpu [ONLY="accuracy memory"]   the experiments of a preset, one after the other; what finished is skipped
# make gpu [PY=python3] [PRESET=smoke] [STAGES="tests decode"]   the paper's claims on a GPU in twelve minutes, in bounded stages
# All first make .venv and install into it what pyproject.toml asks for, in the versions of constraints.txt.

PYTHON ?= python3
TORCH ?= 2.13.0
# Where PyTorch keeps its CPU builds, asked only if the configured package sources have none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := .venv/bin/python -m pip --disable-pip-version-check
INSTALLED := .venv/installed

.PHONY: demo test test-triton reproduce gpu install clean
.DELETE_ON_ERROR:

demo: install
	.venv/bin/python -m experiments.demo

test: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	@# a process a core with one thread each: most tests are too small to gain from two
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto

VERSION ?= 3.9.0
test-triton: install
	@# NumPy, because Triton 3.6's interpreter stops at 2.4
	$(PIP) install --quiet --no-deps --target .venv/triton-$(VERSION) triton==$(VERSION) 'numpy<2.4'
	PYTHONPATH=$(CURDIR)/.venv/triton-$(VERSION) .venv/bin/python -m pytest tests/kernels
	PYTHONPATH=$(CURDIR)/.venv/triton-$(VERSION) .venv/bin/python -m kernels.tools.offline
	PYTHONPATH=$(CURDIR)/.venv/triton-$(VERSION) .venv/bin/python -m kernels.tools.offline_fit
	PYTHONPATH=$(CURDIR)/.venv/triton-$(VERSION) .venv/bin/python -m kernels.tools.offline_cosine

# The paper's claims first; a failure does not stop the others, and their list ends the whole.
EXPERIMENTS := accuracy memory memory_houses memory_flowers102 memory_mini_imagenet speedup_cifar10 speedup_houses end_to_end \
  baseline_jpeg augmentation architecture_curves architecture pruning_ratio pruning_max_drop pruning_floor pruning \
  quantization_fitted quantization_trained quantization_scales quantization_ends quantization \
  rate_distortion_codecs rate_distortion_kodak rate_distortion_cifar10 rate_distortion_cosine rate_distortion_photos rate_accuracy \
  encode_time encode_time_codecs \
  scaling scaling_224 segmentation single_image failures_of_encoding failures_of_training failures_of_speed
PRESET ?= cpu
ONLY ?= $(EXPERIMENTS)
PYTHON_M ?= .venv/bin/python -m
reproduce: install
	@failed=; for name in $(ONLY); do \
	  config=configs/experiment/$$name; \
	  if [ ! -f $$config/paper.yaml ]; then echo "error: ONLY=$$name, expected of $(EXPERIMENTS)"; failed="$$failed $$name"; continue; fi; \
	  if [ ! -f $$config/$(PRESET).yaml ]; then echo "$$name has no preset $(PRESET)"; continue; fi; \
	  command=$$(sed -n 's/^command: //p' $$config/paper.yaml); \
	  echo "== $$name/$(PRESET)"; \
	  $(PYTHON_M) experiments.$$command -m experiment=$$name/$(PRESET) || failed="$$failed $$name"; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

# PY=python3 takes that Python as it is and installs nothing; docs/gpu.md.
gpu: $(if $(PY),,install)
	PY=$(or $(PY),.venv/bin/python) PRESET=$(PRESET:cpu=h200) STAGES="$(STAGES)" experiments/gpu.sh

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || { echo "error: Python 3.11.4 or newer is needed; name one with PYTHON=python3.12"; exit 2; }
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
