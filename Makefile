# Everything a newcomer needs: `make demo`, `make test`. Each target does all its own set-up.
SHELL := bash
.DELETE_ON_ERROR:

PYTHON ?= $(shell env/find_python.sh 3.11 3.12 3.13)
PYTHON_LAVA ?= $(shell env/find_python.sh 3.10)

BUILD := env/build.sh pyproject.toml
OUT := out

.PHONY: help check demo quantisation scales test fuzz fuzz-operators fuzz-guided people nir kills matrix env env-lava native wheels docs docs-serve \
    graphs graphs-lava models \
    pictures bench bench-jobs bench-cuda emulated clean

help:
	@echo "make demo          train on the digits, export, convert, check every spike (LAVA=1 adds Lava-DL and Lava, Python 3.10)"
	@echo "make quantisation  what quantisation costs, in seven ways to train and convert, three seeds each (twenty minutes)"
	@echo "make scales        scale auto against fixed scales, on five trained networks (fifteen minutes)"
	@echo "make test          all checks and tests"
	@echo "make check         style, types and the quickest of the tests, within two minutes"
	@echo "make env           build .venv (Python >= 3.11: SpikingJelly, onnxruntime)"
	@echo "make fuzz          damaged files against everything that reads files (CASES=100000)"
	@echo "make fuzz-operators  valid and nearly valid operators in the native library, under the sanitizers (CASES=10000)"
	@echo "make fuzz-guided   files that reach new lines of the readers, by atheris (SECONDS_EACH=600 for .onnx and for .net)"
	@echo "make people        random networks as people write them, exported equal or refused in words (CASES=1000)"
	@echo "make nir           random NIR graphs in onnxruntime, slayer, NetX and Lava (CASES=100; ten minutes)"
	@echo "make graphs        random networks of layers in any order, and graphs of them, converted equal or refused (CASES=3000 SEED=0)"
	@echo "make graphs-lava   such graphs in onnxruntime, slayer and Lava (CASES=100 SEED=0; ten minutes)"
	@echo "make kills         kill conversions at random moments (KILLS=1000)"
	@echo "make matrix        the core on every supported Python, with the oldest and the newest numpy, onnx and onnxruntime"
	@echo "make wheels        what is published, into dist/: for x86-64 and AArch64, any glibc from 2.17 on; installed and tested"
	@echo "make docs          the documentation site, strictly, into out/site (docs-serve shows it at http://127.0.0.1:8000)"
	@echo "make emulated      the GPU's kernels on the CPU: 5,000 property cases of all operators"
	@echo "make native        build the native operator library (needs a C++ compiler)"
	@echo "make bench         speed, side by side with slayer, SpikingJelly and Lava, into docs/benchmark.md"
	@echo "make models        export SpikingJelly's own networks and compare them layer by layer, into docs/models.md"
	@echo "make bench-jobs    what two processes gain over one where Lava's simulation runs"
	@echo "make bench-cuda    on a machine with a GPU: its kernels against the CPU's, and their bandwidth"
	@echo "make pictures      take the pictures of the report page in the documentation (needs Debian's chromium)"
	@echo "make env-lava      build .venv-lava (Python 3.10: Lava-DL, Lava)"

env: .venv/ready native
env-lava: .venv-lava/ready

# The native operator library, built into custom_ops/ where both environments find it. Without a compiler the function bodies
# serve; in CI that is an error.
native: .venv/ready
	@if command -v $${CXX:-c++} >/dev/null; then \
	    export PATH="$(CURDIR)/.venv/bin:$$PATH"; \
	    .venv/bin/python -m cmake -S . -B build -G Ninja >build.log 2>&1 && .venv/bin/python -m cmake --build build >>build.log 2>&1 \
	        || { cat build.log >&2; exit 2; }; \
	elif [ -n "$(CI)" ]; then \
	    echo "No C++ compiler found: install g++ or name one with CXX=..." >&2; exit 2; \
	else \
	    echo "No C++ compiler found: models will run without the native operator library, slower."; \
	fi

.venv/ready: $(BUILD) env/train.txt
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.11, 3.12 or 3.13 found: install one, or name it with PYTHON=..." >&2; exit 2; }
	env/build.sh train "$(PYTHON)" .venv
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv-lava/ready: $(BUILD) env/lava.txt
	@[ -n "$(PYTHON_LAVA)" ] || { echo "No Python 3.10 found, and Lava-DL 0.6 runs on no other: install it, or name it with PYTHON_LAVA=..." >&2; exit 2; }
	env/build.sh lava "$(PYTHON_LAVA)" .venv-lava
	.venv-lava/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Tools that networks come from and go to, beside what is in .venv already.
.venv/peers: .venv/ready env/peers.txt
	.venv/bin/python -m pip install --quiet --no-deps -r env/peers.txt
	touch $@

.venv-cluster/ready: env/cluster.txt env/build.sh
	env/build.sh cluster "$(PYTHON)" .venv-cluster
	touch $@

.venv-ort-%/ready: env/ort-%.txt env/build.sh
	env/build.sh ort-$* "$(PYTHON)" .venv-ort-$*
	touch $@

# The core, without torch and Lava, on every Python: one after the other with the oldest and the newest of what it needs. (Python
# 3.10 has no newer numpy and onnxruntime than those of env/lava.txt, with which `make test` runs the same tests.)
MATRIX := 3.10-oldest 3.11-newest 3.12-oldest 3.13-newest
MATRIX_TESTS := tests/custom_ops/test_operators.py tests/onnx2lava/test_cli.py tests/onnx2lava/test_read.py \
    tests/onnx2lava/test_roundtrip.py tests/onnx2lava/test_shipped.py

.venv-core-%/ready: $(BUILD) env/core-oldest.txt env/core-newest.txt
	env/build.sh core-$(lastword $(subst -, ,$*)) "$(shell env/find_python.sh $(firstword $(subst -, ,$*)))" .venv-core-$*
	touch $@

matrix: native $(MATRIX:%=.venv-core-%/ready)
	@for core in $(MATRIX); do \
	    echo "Python and packages: $$core"; \
	    .venv-core-$$core/bin/python -m pytest -q -p no:cacheprovider $(MATRIX_TESTS) || exit 1; \
	done

# The main job on real data: train on the digits, export, convert, compare every spike.
demo: env $(if $(LAVA),env-lava)
	.venv/bin/python -m models.demo -out-dir $(OUT) $(if $(LAVA),-lava .venv-lava/bin/python)

quantisation: env
	.venv/bin/python -m models.quantisation

# Trained networks are kept in $(OUT)/scales; without them it trains again.
scales: env
	.venv/bin/python -m models.scales -out-dir $(OUT)/scales

# In CI a missing Python 3.10 is an error; elsewhere the peers' tests are left out, and the last line says so.
ifneq ($(PYTHON_LAVA)$(CI),)
LAVA_ENV := .venv-lava/ready
endif

# The library for AArch64 runs in QEMU. In CI a machine that cannot have that is an error; elsewhere those tests are skipped.
ifneq ($(and $(shell command -v apt-get),$(filter x86_64,$(shell uname -m)))$(CI),)
AARCH64_ENV := .venv-wheels/ready .venv-aarch64/ready
endif

# What other processors do, and what compilers make: nothing of it depends on the Python that asks, so it runs in one environment.
EMULATED := tests/custom_ops/test_emulated.py tests/custom_ops/test_gpu_errors.py tests/custom_ops/test_mutants.py
ELSEWHERE := $(EMULATED) $(addprefix tests/custom_ops/,test_aarch64.py test_sanitizers.py test_packaging.py)

# A process a core, each with whole files, so that what a file sets up once is set up once; a process takes a gigabyte or two.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile

test: env .venv/peers docs .venv-ort-oldest/ready .venv-ort-newest/ready .venv-cluster/ready $(LAVA_ENV) $(AARCH64_ENV)
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy
	.venv/bin/python -m pytest $(SIDE_BY_SIDE) tests --ignore=tests/lava --ignore=tests/wheels
ifdef LAVA_ENV
	.venv-lava/bin/python -m pytest $(SIDE_BY_SIDE) tests/lava tests/custom_ops tests/onnx2lava $(ELSEWHERE:%=--ignore=%)
else
	@echo "SKIPPED: no Python 3.10 on this machine, so nothing was compared with Lava-DL and Lava."
endif

# A quick lane, within two minutes: style, types, and the tests that kill nearly every fault of reading, writing and operators.
CHECKS := tests/custom_ops/test_operators.py tests/onnx2lava/test_read.py tests/onnx2lava/test_limits.py \
    tests/onnx2lava/test_quantize.py tests/onnx2lava/test_shipped.py tests/sj2onnx/test_layout.py

check: env
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy
	.venv/bin/python -m pytest -q $(SIDE_BY_SIDE) $(CHECKS)

CASES ?= 100000
KILLS ?= 1000
SECONDS_EACH ?= 600

# Whatever comes in, nothing crashes, hangs or shows a traceback; whatever happens, files are whole.
fuzz: env
	.venv/bin/python -m tests.fuzz --cases $(CASES)

# Valid and nearly valid operators through onnxruntime, the native library under AddressSanitizer and UndefinedBehaviorSanitizer.
fuzz-operators: CASES := $(if $(filter command line environment,$(origin CASES)),$(CASES),10000)
fuzz-operators: .venv/ready
	.venv/bin/python -m tests.fuzz.operators --cases $(CASES)

# Coverage-guided: what reaches new lines of the readers is kept in $(OUT)/corpus and changed further.
fuzz-guided: .venv-fuzz/ready
	.venv-fuzz/bin/python -m tests.fuzz.guided --kind .onnx --seconds $(SECONDS_EACH) --corpus $(OUT)/corpus
	.venv-fuzz/bin/python -m tests.fuzz.guided --kind .net --seconds $(SECONDS_EACH) --corpus $(OUT)/corpus

.venv-fuzz/ready: env/fuzz.txt env/build.sh
	env/build.sh fuzz "$(PYTHON)" .venv-fuzz
	touch $@

# A CPU second or two for each network.
people: CASES := $(if $(filter command line environment,$(origin CASES)),$(CASES),1000)
people: env
	CASES=$(CASES) .venv/bin/python -m pytest -q -n auto --maxprocesses 4 tests/sj2onnx/test_compositions.py -k random_composition

# A few seconds for each graph, nearly all of them Lava's.
nir: NIR_CASES := $(if $(filter command line environment,$(origin CASES)),$(CASES),100)
nir: env env-lava .venv/peers
	NIR_CASES=$(NIR_CASES) .venv/bin/python -m pytest -q -s tests/nir/test_integers.py

# Half a CPU second for each.
graphs: CASES := $(if $(filter command line environment,$(origin CASES)),$(CASES),3000)
graphs: env
	CASES=$(CASES) SEED=$(or $(SEED),0) .venv/bin/python -m pytest -q tests/sj2onnx/test_random_graphs.py -k "any_order or test_graphs"

# Five seconds for each, nearly all of them Lava's.
graphs-lava: CASES := $(if $(filter command line environment,$(origin CASES)),$(CASES),100)
graphs-lava: env env-lava
	LAVA_CASES=$(CASES) SEED=$(or $(SEED),0) .venv/bin/python -m pytest -q tests/sj2onnx/test_random_graphs.py -k "exported or lava"

kills: env
	.venv/bin/python -m tests.faults --kills $(KILLS)

# The report page and the site in a real browser: light and dark, on a wide and on a narrow screen.
pictures: env docs $(LAVA_ENV) .venv-browser/ready
	$(if $(LAVA_ENV),.venv-lava,.venv)/bin/python -m onnx2lava verify models/digits_csnn.onnx --trace models/digits_csnn.npz --report $(OUT)/report
	.venv-browser/bin/python docs/pictures/take.py $(OUT)/report/index.html
	.venv-browser/bin/python docs/pictures/take.py $(OUT)/site/index.html site

.venv-browser/ready: env/browser.txt env/build.sh
	env/build.sh browser "$(PYTHON)" .venv-browser
	touch $@

# The wheels are built by a compiler that comes as a Python package, so that neither a container nor an old system is needed; then
# installed into bare environments of every Python there is, and looked at by the package index's own checkers.
wheels: .venv-wheels/ready
	.venv-wheels/bin/python env/make_wheels.py -o dist
	SJ2LAVA_DIST=dist .venv-wheels/bin/python -m pytest -q -p no:cacheprovider tests/wheels

.venv-wheels/ready: env/wheels.txt env/build.sh
	env/build.sh wheels "$(PYTHON)" .venv-wheels
	touch $@

# An AArch64 Python on this processor, with what the wheel needs; it runs the tests of that wheel.
.venv-aarch64/ready: env/aarch64.sh env/aarch64.txt .venv-wheels/ready
	env/aarch64.sh .venv-wheels/bin/python .venv-aarch64
	touch $@

# A link, an anchor or a name in the API reference that leads nowhere is an error. Nothing is fetched.
docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs --quiet build --strict --site-dir $(CURDIR)/$(OUT)/site

docs-serve: .venv-docs/ready
	.venv-docs/bin/python -m mkdocs serve --strict

.venv-docs/ready: env/docs.txt env/build.sh
	env/build.sh docs "$(PYTHON)" .venv-docs
	touch $@

models: env
	.venv/bin/python -m models.spikingjelly_models -o docs/models.md

bench: env $(LAVA_ENV)
	.venv/bin/python -m bench $(if $(LAVA_ENV),-lava .venv-lava/bin/python)

bench-jobs: env-lava
	.venv-lava/bin/python -m bench.jobs

# No GPU is needed: the kernels are compiled for an emulated one; with faults planted in them, too.
emulated: env
	.venv/bin/python -m pytest -q $(EMULATED)

# Nor a package index, where cmake is installed: the check program needs a compiler and nvcc.
CMAKE := $(or $(shell command -v cmake),.venv/bin/python -m cmake)

BENCH_PYTHON := $(firstword $(wildcard .venv/bin/python) python3)

bench-cuda: $(if $(shell command -v cmake),,native)
	$(CMAKE) -S . -B build/cuda -DCMAKE_BUILD_TYPE=Release
	$(CMAKE) --build build/cuda --target cuda_check snn_ops_cuda
	build/cuda/cuda_check
	-nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
	-$(BENCH_PYTHON) -m bench.cuda_instructions
	$(if $(wildcard .venv/ready),-$(BENCH_PYTHON) -m bench.training cuda)
	-$(BENCH_PYTHON) -m bench.cuda_network $(if $(wildcard .venv/ready),,models/digits_csnn.onnx)
	-$(firstword $(wildcard .venv-lava/bin/python) $(BENCH_PYTHON)) -m bench.cuda_peers

clean:
	rm -rf .venv .venv-lava .venv-ort-oldest .venv-ort-newest .venv-cluster .venv-browser .venv-fuzz .venv-wheels .venv-aarch64 .venv-docs .venv-core-* \
	    build build.log dist custom_ops/*.so $(OUT)
