# make demo, make test: from a fresh clone with nothing but Python (3.11 or newer) and make. The device half alone, which
# runs artefacts without PyTorch, is made and tested on Python 3.10 too: make test-device PYTHON=python3.10.
#
# A machine without a GPU may want the CPU build of PyTorch: give pip the index that has it, for instance
#   make test PIP_INSTALL_FLAGS='--extra-index-url URL'

PYTHON ?= python3
PIP_INSTALL_FLAGS ?=
TRAIN_FLAGS ?=
FUZZ_FLAGS ?=
GPU_FLAGS ?=
# LOCKED=1 installs packages by their hash, from requirements/ci.txt; PyTorch alone by its version.
LOCKED ?=
comma := ,
EXTRAS := coreml,depth-networks,dev,export,heic,interop,openvino,onnx,rgbd,rtx,studio,torch,train,trust,video,web

# What the demo refocuses: two focal planes, X,Y in 0..1 from the top left.
DEMO_PHOTO := samples/drum.jpg
DEMO_FOCUS := 0.34,0.58 0.49,0.26
DEMO_F_NUMBERS := 1.4 2.8 5.6

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DOCS_VENV := .venv-docs
ARTIFACTS := artifacts

# The environment of the device half: no PyTorch. `onnx` makes the small graphs of its tests.
DEVICE_VENV := .venv-device
DEVICE_BIN := $(DEVICE_VENV)/bin
DEVICE_TOOLS := hypothesis onnx packaging pytest tifffile
DEVICE_CONSTRAINTS = $(shell $(PYTHON) -c 'import sys; print("constraints-py310.txt" if sys.version_info < (3, 11) else "constraints.txt")')
# `make test` tests the device half with this one too, where it is found.
OLDEST ?= python3.10

# What is installed runs, in .venv or outside.
GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: help demo gpu test test-fast test-device test-full-disk test-kills fuzz lock lint format dist docs web data train clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(INSTALLED): pyproject.toml constraints.txt requirements/ci.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if test -n '$(LOCKED)'; then $(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements/ci.txt; \
	else $(BIN)/python -m pip install -q -c constraints.txt setuptools; fi
	$(BIN)/python -m pip install -q -c constraints.txt $(PIP_INSTALL_FLAGS) --no-build-isolation -e '.[$(EXTRAS)]'
	touch $@

# What only PyTorch's CUDA build brings is left out with it: which build is installed is the machine's choice.
UNLOCKED := torch triton cuda-toolkit $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile \
	curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)

lock: ## write the hashes of all packages into requirements/ci.txt; needs uv
	awk '/^#/' requirements/ci.txt > requirements/ci.new
	uv pip compile -q pyproject.toml $(foreach each,$(subst $(comma), ,$(EXTRAS)),--extra $(each)) -c constraints.txt \
	  --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
	  $(foreach each,$(UNLOCKED),--no-emit-package $(each)) >> requirements/ci.new
	mv requirements/ci.new requirements/ci.txt

demo: $(INSTALLED) ## refocus a sample photo with ONNX Runtime, and write the parity table, into demo/
	$(BIN)/deeplens export onnx --variant edge
	$(BIN)/python -m deeplens.commands.demo $(DEMO_PHOTO) $(DEMO_FOCUS:%=--focus %) $(DEMO_F_NUMBERS:%=--f-number %) -o demo
	$(BIN)/deeplens parity --runtime onnx --photo $(DEMO_PHOTO) --markdown demo/parity.md
	@if test -f $(WEB_PAGE)/index.html; then echo "click to focus, in your browser: $(BIN)/deeplens studio"; \
	else echo "click to focus, in your browser: make web (needs Node), then $(BIN)/deeplens studio"; fi

test: lint ## lint, then run all tests; those of the device half again on Python 3.10 if it is there
	$(BIN)/python -m pytest
	@if $(OLDEST) -c 'import ensurepip' 2>/dev/null; then $(MAKE) test-device PYTHON=$(OLDEST); \
	else echo "skipped: the device half on Python 3.10: no $(OLDEST) that runs was found"; fi

test-fast: $(INSTALLED) ## run the tests that are not slow
	$(BIN)/python -m pytest -m "not slow"

fuzz: $(INSTALLED) ## give broken files to every reader (FUZZ_FLAGS='--cases 50000 --target photo'); findings go to fuzz/
	$(BIN)/python -m tests.fuzz $(FUZZ_FLAGS)

test-device: ## test the device half in an environment without PyTorch (PYTHON=python3.10)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "error: Python 3.10 or newer is needed: make test-device PYTHON=python3.10")'
	$(PYTHON) -m venv --clear $(DEVICE_VENV)
	$(DEVICE_BIN)/python -m pip install -q -c $(DEVICE_CONSTRAINTS) setuptools
	$(DEVICE_BIN)/python -m pip install -q -c $(DEVICE_CONSTRAINTS) $(PIP_INSTALL_FLAGS) --no-build-isolation -e '.[onnx,trust]' $(DEVICE_TOOLS)
	$(DEVICE_BIN)/python -m pytest -p tests.support.device

gpu: ## on a machine with an NVIDIA GPU: run its tests, parity and bench in under eight minutes; installs nothing
	@export PYTHONPATH=src; $(GPU_PYTHON) -c 'import deeplens.commands.gpu' 2>/dev/null || \
	{ echo "error: the packages of this project are missing: pip install -e '.[export]', with a build of PyTorch for CUDA"; exit 4; }; \
	$(GPU_PYTHON) -m deeplens.commands.gpu $(GPU_FLAGS)

test-full-disk: $(INSTALLED) ## write everything on disks that are too small; nothing broken may be called done (Linux)
	$(BIN)/python -m tests.trust.full_disk

test-kills: $(INSTALLED) ## kill export, folder, calibrate, fit, collect and studio 50 times each, at any moment
	$(BIN)/python -m tests.trust.kills

lint: $(INSTALLED) ## run ruff, mypy and the import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## format the code with ruff
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(DOCS_VENV)/installed: docs/_site/constraints.txt pyproject.toml
	test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install -q -U -c docs/_site/constraints.txt pip
	$(DOCS_VENV)/bin/python -m pip install -q -c docs/_site/constraints.txt --group docs
	touch $@

dist: $(INSTALLED) ## build a wheel with the ONNX graphs of edge, the web page if there is Node, and its bill of materials
	$(BIN)/python -m deeplens.export.packaged
	@if command -v npm > /dev/null; then $(MAKE) web; \
	else echo "note: this wheel has no web page: building it needs Node"; rm -rf $(WEB_PAGE); fi
	rm -rf build
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .
	$(BIN)/python -m deeplens.export.bill --out dist
	@ls -l dist/*.whl | awk '{ printf "%s: %.1f MB\n", $$NF, $$5 / 1e6 }'

docs: $(DOCS_VENV)/installed ## build the site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict

web/node_modules/.package-lock.json: web/package.json web/package-lock.json web/.npmrc
	cd web && npm ci --ignore-scripts
	touch $@

WEB_PAGE := src/deeplens/web_page

web: $(INSTALLED) web/node_modules/.package-lock.json ## build the web page with its models (needs Node), and web/build/
	cd web && npm run build && npm run page
	$(BIN)/deeplens export onnx --variant edge --form cpu --form webgpu --out $(ARTIFACTS)
	$(BIN)/deeplens export onnx --variant edge --network lens_blur --precision int8 --out $(ARTIFACTS)
	$(BIN)/python -m deeplens.export.web_graphs --artifacts $(ARTIFACTS)
	$(BIN)/python -m deeplens.parity_tests.web_vectors
	@du -sb $(WEB_PAGE) | awk '{ printf "%s: %.1f MB; open it with: $(BIN)/deeplens studio\n", $$2, $$1 / 1e6 }'


data: $(INSTALLED) ## fetch photos and cut-outs for training and evaluation, into data/
	$(BIN)/python -m deeplens.scenes.fetch

train: data ## train the lens blur and the step of `edge`, into runs/ (TRAIN_FLAGS=--resume continues)
	$(BIN)/python -m deeplens.training.fit_blur --variant edge --out runs/edge_blur $(TRAIN_FLAGS)

clean: ## delete everything that was made, except data/ and runs/
	rm -rf $(VENV) $(DEVICE_VENV) $(DOCS_VENV) artifacts demo build dist site src/deeplens/packaged src/deeplens/web_page web/build web/node_modules *.egg-info src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
