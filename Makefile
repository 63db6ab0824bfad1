# weir. `make help` lists the targets; a target's description stands behind its `##`.

SHELL := /bin/bash
JOBS ?= $(shell nproc)
# Debian's Python: the lab's applications need Debian's grpcio.
PYTHON := /usr/bin/python3
PYTEST := $(PYTHON) -m pytest -p no:cacheprovider
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60
# The folders of tests/unit with threads in what they test.
TSAN_UNITS := admin base io proxy telemetry
# Lab tests that meet most of the agent's code in two minutes.
ASAN_LAB := test_bad_backend.py test_bad_client.py test_relay.py test_restart.py::test_restart_under_load
# `make check` looks at what changed since this commit with clang-tidy.
BASE ?= $(shell git merge-base HEAD origin/main 2>/dev/null || git rev-parse HEAD)
SOURCES = $(shell git ls-files '*.cpp' '*.h' 'bpf/*.c')
# How many modules' tests run at once, each in a lab of its own: they wait more than they work. 0: one after the other.
LABS ?= 3
SIDE_BY_SIDE = $(PYTEST) -n $(LABS) --dist loadfile
# These have the machine for themselves.
MEASURING = $(addsuffix .py,$(addprefix tests/integration/test_,allocations attacks bench detection_cost distribution hung_agent kernel_memory limits))
# More arguments for pytest, e.g. PYTEST_ARGS='-k drain -x'.
PYTEST_ARGS ?=
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
export PYTHONDONTWRITEBYTECODE := 1
# What one clone has compiled, another finds in the cache.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

.DEFAULT_GOAL := help
.PHONY: help setup build bench bench-tools demo demo-down test suites release-build image-build go-tools cluster-tools unit asan tsan bpf-test \
        kernel-test emulated-and-go tools-test image image-test chart-test integration integration-alone \
        kubernetes-test kubernetes-alone e2e integration-redirect-off redirect-off-alone integration-asan scenarios matrix \
        matrix-quick parity conformance fuzz format check check-layers check-golden clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | awk -F'\t' '{ printf "  %-24s %s\n", $$1, $$2 }'

setup: ## Check this machine and install what is missing (packages.txt, bpffs)
	@tools/setup

build: setup build/release/build.ninja ## Build weir-agent and weirctl (build/release)
	@cmake --build --preset release --parallel $(JOBS) --target weir-agent weirctl

build/%/build.ninja: CMakePresets.json
	@cmake --preset $* >/dev/null
	@touch $@

bench-tools: build/release/build.ninja
	@cmake --build --preset release --parallel $(JOBS) --target rpc_load rpc_backend tcp_load tcp_backend route_bench

bench: build bench-tools ## CPU per RPC beside HAProxy's, nginx's and Envoy's (QUICK=1: under three minutes)
	@tests/bench/bench $(if $(QUICK),--quick)

demo: build ## Show the main job on this machine (KEEP=1 leaves it running)
	@tools/lab/demo $(if $(KEEP),--keep)

demo-down: ## End what `make demo KEEP=1` left running
	@tools/lab/demo --down

test: ## Build everything and run every test
	@rm -rf build/reports
	@tools/setup --go
	@$(MAKE) --no-print-directory --keep-going suites; status=$$?; tools/suite --report; exit $$status

# In one order, one after the other.
suites: check-layers check-golden unit asan tsan bpf-test emulated-and-go tools-test image-test chart-test integration integration-alone \
        integration-redirect-off redirect-off-alone integration-asan scenarios parity conformance matrix-quick fuzz \
        kubernetes-test kubernetes-alone e2e
.NOTPARALLEL:

# What several suites need is done once in a run of make.
release-build: build/release/build.ninja
	@tools/suite build-release -- cmake --build --preset release --parallel $(JOBS)

image-build: build
	@tools/suite image-build -- tools/image

go-tools:
	@tools/setup --go
	@tools/suite go-tools -- tools/go_tool helm h2spec grpc-interop

# The first time Kubernetes is built: seven minutes on two cores.
cluster-tools:
	@tools/setup --go
	@tools/suite cluster-tools --limit 5400 -- tools/go_tool kubernetes istio-crds coredns lab-clients

unit: release-build ## Unit tests, release build
	@tools/suite unit --ctest build/release '^unit/'

asan: build/asan/build.ninja ## Unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/suite build-asan -- cmake --build --preset asan --parallel $(JOBS) --target unit_tests unit_golden
	@tools/suite asan --ctest build/asan '^unit/'

tsan: build/tsan/build.ninja ## Unit tests of what has threads under ThreadSanitizer
	@tools/suite build-tsan -- cmake --build --preset tsan --parallel $(JOBS) --target $(addprefix unit_,$(TSAN_UNITS))
	@tools/suite tsan --ctest build/tsan '^unit/($(subst $(SPACE),|,$(TSAN_UNITS)))/'

bpf-test: release-build ## BPF programs, by real connect() calls in a cgroup of their own
	@tools/suite bpf --limit 300 -- build/release/tests/bpf/bpf_test --gtest_brief=1 --gtest_output=xml:build/reports/bpf.xml

# KERNEL_SUITE=bookworm-backports: 6.12 instead of 6.1.
kernel-test: release-build ## The same tests on Debian's 6.1 kernel, emulated by qemu (KERNEL_SUITE)
	@tools/suite kernel --limit 600 -- tools/kernel_test build/release/tests/bpf/bpf_test $(addprefix --suite ,$(KERNEL_SUITE))

# The emulator has one core: Kubernetes is built on the other meanwhile.
emulated-and-go: release-build
	@nice -n 19 $(MAKE) --no-print-directory cluster-tools & \
	  $(MAKE) --no-print-directory kernel-test; status=$$?; wait $$! || status=$$?; exit $$status

# IMAGE: its name, with a host part (localhost/weir); TAG: the version if empty.
image: build ## The image as an OCI archive, build/image/weir-VERSION.tar, without a Docker daemon (IMAGE, TAG)
	@tools/image $(addprefix --name ,$(IMAGE)) $(addprefix --tag ,$(TAG))

image-test: image-build ## Tests of the image: what is in it, and an agent that runs in it
	@tools/suite image -- $(PYTEST) tests/image --junitxml build/reports/image.xml $(PYTEST_ARGS)

tools-test: ## Tests of the tools themselves (setup, check_layers, check_golden, manifests)
	@tools/suite tools -- $(PYTEST) tests/tools --junitxml build/reports/tools.xml $(PYTEST_ARGS)

# After a change of the chart that is meant: WEIR_RENEW_GOLDEN=1 make chart-test
chart-test: build go-tools ## The Helm chart: lint, golden files, schema, RBAC, queries, and an agent with its privileges
	@tools/suite chart -- $(PYTEST) tests/chart --junitxml build/reports/chart.xml $(PYTEST_ARGS)

integration: build bench-tools ## Tests in the lab, with real agents, servers and clients
	@tools/suite integration -- $(SIDE_BY_SIDE) tests/integration $(addprefix --ignore ,$(MEASURING)) \
	  --junitxml build/reports/integration.xml $(PYTEST_ARGS)

integration-alone: build bench-tools ## Those that measure, or load the machine
	@tools/suite integration-alone -- $(PYTEST) $(MEASURING) --junitxml build/reports/integration-alone.xml $(PYTEST_ARGS)

kubernetes-test: build cluster-tools ## The agent against a real API server, and a broken one
	@tools/suite kubernetes -- $(SIDE_BY_SIDE) tests/kubernetes --ignore tests/kubernetes/test_scale.py \
	  --junitxml build/reports/kubernetes.xml $(PYTEST_ARGS)

kubernetes-alone: build cluster-tools ## The same with as many objects as a large cluster has, measured
	@tools/suite kubernetes-alone -- $(PYTEST) tests/kubernetes/test_scale.py --junitxml build/reports/kubernetes-alone.xml $(PYTEST_ARGS)

# One node for all of them: it says how long each part took.
e2e: cluster-tools go-tools image-build ## weir by its chart on a node of real Kubernetes components (WEIR_E2E_PODS: how many connect at once, 100)
	@tools/suite image-build -- tools/cluster/apps
	@tools/suite e2e -- $(PYTEST) -sv --timeout 300 tests/e2e --junitxml build/reports/e2e.xml $(PYTEST_ARGS)

# Without redirect the bytes between application and agent take another way through the kernel, whose partial sends,
# backpressure and closing differ. So: what moves bytes, waits or ends. Configuration, endpoints, enrolment and the
# demo never see the difference.
REDIRECT_OFF = $(addsuffix .py,$(addprefix tests/integration/test_,bad_backend bad_client deadlines distribution drain fail_open kernel_memory redirect \
                 relay restart schedules))
integration-redirect-off: build ## The same, as far as bytes are concerned, without redirect past TCP
	@WEIR_REDIRECT=off tools/suite integration-redirect-off -- $(SIDE_BY_SIDE) $(filter-out $(MEASURING),$(REDIRECT_OFF)) \
	  --junitxml build/reports/integration-redirect-off.xml $(PYTEST_ARGS)

redirect-off-alone: build ## Of these, too, those that measure, or load the machine
	@WEIR_REDIRECT=off tools/suite redirect-off-alone -- $(PYTEST) $(filter $(MEASURING),$(REDIRECT_OFF)) \
	  --junitxml build/reports/redirect-off-alone.xml $(PYTEST_ARGS)

integration-asan: build/asan/build.ninja ## Some of them with an agent under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/suite build-asan -- cmake --build --preset asan --parallel $(JOBS) --target weir-agent weirctl
	@WEIR_BUILD_DIR=build/asan UBSAN_OPTIONS=print_stacktrace=1 tools/suite integration-asan -- $(PYTEST) \
	  $(addprefix tests/integration/,$(ASAN_LAB)) --junitxml build/reports/integration-asan.xml $(PYTEST_ARGS)

# SCENARIO='outliers canary': only those with one of these words in their names.
scenarios: build ## The mission's scenarios with real gRPC clients, a line each (SCENARIO='canary')
	@tools/suite scenarios --limit 600 -- tests/scenarios/run --junitxml build/reports/scenarios.xml $(SCENARIO)

# The first time clients are built and fetched: five minutes on two cores. ROW='redis TLS': only rows with one of these
# words in their names.
matrix: ## Real clients and servers of many protocols, without weir and through it, a line each (ROW='redis postgres')
matrix-quick: ## The same without the clients in Java, JavaScript and Rust
matrix-quick: QUICK = 1
matrix matrix-quick: build
	@tools/setup --matrix
	@tools/suite matrix-clients -- tests/matrix/run $(if $(QUICK),--quick) --build $(ROW)
	@tools/suite $@ -- tests/matrix/run $(if $(QUICK),--quick) --junitxml build/reports/$@.xml $(ROW)

parity: build ## The same faults and routes through weir and through Envoy
	@tools/suite parity -- $(PYTEST) tests/parity --junitxml build/reports/parity.xml $(PYTEST_ARGS)

conformance: build go-tools ## h2spec and grpc-go's interop suite through the diverted path
	@tools/suite conformance -- $(PYTEST) tests/conformance --junitxml build/reports/conformance.xml $(PYTEST_ARGS)

fuzz: build/asan/build.ninja ## Each fuzz target for FUZZ_SECONDS (60)
	@tools/suite build-fuzz -- cmake --build --preset asan --parallel $(JOBS) --target $$(tools/run_fuzz build/asan --list)
	@tools/suite fuzz -- tools/run_fuzz build/asan $(FUZZ_SECONDS)

format: ## Format the sources with clang-format
	@clang-format-14 -i $(SOURCES)

check: check-layers check-golden build/release/build.ninja ## Layers, golden tables, format, and clang-tidy on what changed since BASE
	@clang-format-14 --dry-run -Werror $(SOURCES)
	@cmake --build --preset release --parallel $(JOBS) --target weir_bpf_object
	@files=$$(git diff --name-only --diff-filter=d $(BASE) -- 'userspace/*.cpp' 'tools/*.cpp'); \
	  [ -z "$$files" ] || xargs -P $(JOBS) -n 1 clang-tidy-14 -p build/release --quiet <<<"$$files"

check-layers: ## Check that no folder includes one above it
	@tools/check_layers

check-golden: ## Check that the golden tables know every field of the semantics
	@tools/check_golden

clean: ## Remove build/
	@rm -rf build
