# Everyday commands. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BUILD_DIR := build/release
BIN_DIR := $(BUILD_DIR)/bin
TEST_JOBS ?= 2
FUZZ_SECONDS ?= 60
CHAOS_SEEDS ?= 1000
CHAOS_KILLS ?= 200
CHAOS_TAKE_OVERS ?= 100

.PHONY: help deb deps programs build configured demo demo-standby up test bench fuzz chaos sanitize lint format clean cluster cluster-down test-cluster

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## Install what is missing to build, test and lint (Debian 12 and 13)
	@cmake/deps/install.sh

programs: ## Build the coordinator, the worker and the CLI into build/release/bin, and nothing else
	@cmake/deps/install.sh --build
	@test -f $(BUILD_DIR)/build.ninja || cmake --preset release -DESPALIER_BUILD_TESTS=OFF
	@cmake --build --preset release --target espalier_coordinator espalier_worker espalier_cli

build: configured ## Build the three programs and the tests into build/release
	@cmake --build --preset release

# A folder that `make programs` has configured knows no tests yet.
configured: deps
	@{ test -f $(BUILD_DIR)/build.ninja && grep -q '^ESPALIER_BUILD_TESTS:BOOL=ON' $(BUILD_DIR)/CMakeCache.txt; } || \
	  cmake --preset release -DESPALIER_BUILD_TESTS=ON

demo: programs ## Train a sparse network over 3 worker processes, next to its dense twin
	@$(BIN_DIR)/espalier demo --workers 3

demo-standby: programs ## Kill a coordinator in the middle of a job while another one stands by, and compare the models
	@cmake/deps/install.sh --postgres
	@tests/support/postgres.py -- deploy/standby/demo.py

deb: programs ## Make Debian packages of the programs and of the C++ client library in build/release/packages
	@cmake/deps/install.sh --packages
	@cd $(BUILD_DIR) && cpack -G DEB -B packages

up: programs ## Run a coordinator and 4 workers in the foreground (data root: $ESPALIER_DATA or data/)
	@$(BIN_DIR)/espalier up --workers 4

test: build ## Run every test
	@ctest --preset release --parallel $(TEST_JOBS)

bench: deps ## Run the benchmarks
	@cmake/deps/install.sh --bench
	@cmake --preset release -DESPALIER_BUILD_TESTS=ON -DESPALIER_BUILD_BENCH=ON
	@cmake --build --preset release
	@tests/bench/run.sh

fuzz: ## Run each fuzz target for FUZZ_SECONDS (default 60); crashes are left in build/fuzz/crashes
	@cmake/deps/install.sh --build --test --fuzz
	@tests/fuzz/run.sh $(FUZZ_SECONDS)

chaos: build ## Kill and disturb for a while (CHAOS_SEEDS, CHAOS_KILLS, CHAOS_TAKE_OVERS); the report is build/chaos/report.md
	@tests/chaos/run.py --seeds $(CHAOS_SEEDS) --kills $(CHAOS_KILLS) --take-overs $(CHAOS_TAKE_OVERS)

sanitize: deps ## Run the tests under the address, undefined-behaviour and thread sanitizers; builds everything twice more
	@tests/sanitize/run.py

lint: configured ## Check format, layering, protocol, scripts and clang-tidy
	@tests/lint/run.sh $(BUILD_DIR)

format: ## Apply clang-format to every C++ file
	@tests/lint/files.py .h .cc | xargs -r clang-format-14 -i

clean: ## Remove everything that was built
	rm -rf build

cluster: ## Build the images, start the containers and run the demo job through them
	@deploy/cluster.sh up

cluster-down: ## Stop the containers; their volumes stay
	@deploy/cluster.sh down

test-cluster: ## Run the whole container cycle with assertions and clean up
	@deploy/cluster.sh test
