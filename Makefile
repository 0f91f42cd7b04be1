# Everyday commands. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BUILD_DIR := build/release
BIN_DIR := $(BUILD_DIR)/bin
TEST_JOBS ?= 2
FUZZ_SECONDS ?= 60

.PHONY: help deps build programs demo up test bench fuzz lint format clean cluster cluster-down test-cluster

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## Install what is missing to build, test and lint (Debian 12 and 13)
	@cmake/deps/install.sh

build: deps ## Build the three programs and the tests into build/release
	@test -f $(BUILD_DIR)/build.ninja || cmake --preset release
	@cmake --build --preset release

# What running a cluster takes; three quarters of the objects are tests.
programs: deps ## Build the three programs only
	@test -f $(BUILD_DIR)/build.ninja || cmake --preset release
	@cmake --build --preset release --target espalier espalier_coordinator espalier_worker

demo: programs ## Train a sparse network over 3 worker processes, next to its dense twin
	@$(BIN_DIR)/espalier demo --workers 3

up: programs ## Run a coordinator and 4 workers in the foreground (data root: $ESPALIER_DATA or data/)
	@$(BIN_DIR)/espalier up --workers 4

test: build ## Run every test
	@ctest --preset release --parallel $(TEST_JOBS)

bench: ## Run the benchmarks
	@cmake/deps/install.sh --bench
	@cmake --preset release -DESPALIER_BUILD_BENCH=ON
	@cmake --build --preset release
	@tests/bench/run.sh

fuzz: ## Run each fuzz target for FUZZ_SECONDS (default 60); crashes are left in build/fuzz/crashes
	@cmake/deps/install.sh --build --test --fuzz
	@tests/fuzz/run.sh $(FUZZ_SECONDS)

lint: deps ## Check format, layering, protocol, scripts and clang-tidy
	@test -f $(BUILD_DIR)/build.ninja || cmake --preset release
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
