# The verbs of a developer. `make demo` and `make test` do all the set-up that they need.
SHELL := /bin/bash
CARGO ?= cargo
BIN   := target/debug/lanner
# What is measured is optimised; what is developed compiles quickly (Cargo.toml, profile.dev).
FAST  := $(foreach p,lanner lanner-proto,--config profile.dev.package.$(p).opt-level=2)
FAST  += $(foreach p,lanner-core filter-baseline shared-filter,--config profile.dev.package.$(p).opt-level=3)
# The engine's and the sockets' own assertions are for those who change them.
FAST  += $(foreach p,lanner lanner-core filter-baseline shared-filter wasmtime wasmtime-wasi wasmtime-wasi-http wasmtime-wasi-io wasmtime-internal-fiber \
           wasmtime-internal-core tokio hyper hyper-util bytes h2 http, \
           --config profile.dev.package.$(p).debug-assertions=false)

.PHONY: demo test bench build image setup tools cluster lint built unit e2e fuzz clean help

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: ## the Rust targets and the system packages that are missing
	@bash xtask/setup.sh

tools: setup ## what the tests need beyond that: a registry, and tools of others for them
	@bash xtask/setup.sh tests

cluster: tools ## the programs of a cluster for its tests
	@bash tests/cluster/build.sh || echo "the programs of a cluster cannot be built: its tests will be skipped"

build: setup ## the binary, with the functions inside
	$(CARGO) build --package lanner

image: ## the container image as an OCI layout, target/image/oci; no container engine is needed
	@bash xtask/setup.sh image
	$(CARGO) xtask image

demo: build ## scan one benign and one inert malicious sample
	@bash xtask/demo.sh $(BIN)

test: tools ## formatting, clippy with warnings as errors, all tests
	@bash tests/cluster/beside.sh $(MAKE) lint built
	@$(MAKE) unit e2e

lint: setup
	$(CARGO) fmt --all --check
	cd functions && $(CARGO) fmt --all --check
	$(CARGO) xtask tidy
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings

# What `unit` and `e2e` run, compiled: nothing else compiles while they run.
built: build
	$(CARGO) test --workspace --exclude lanner-tests --quiet --no-run
	$(CARGO) test --workspace --test e2e --quiet --no-run

unit: tools
	$(CARGO) test --workspace --exclude lanner-tests --quiet
	cd functions && $(CARGO) test --quiet --locked --target-dir ../target/guests --package filter-baseline --package filter-rules --package filter-severity --package shared-filter

e2e: build cluster
	# The whole workspace is named, so that dependencies have the features that the steps before have built them with.
	$(CARGO) test --workspace --test e2e --quiet -- --nocapture --test-threads=1

bench: setup ## ratios against a named baseline, measured in one run
	$(CARGO) build $(FAST) --package lanner --bins --example policy --example intake --quiet
	$(CARGO) build $(FAST) --workspace --bin lanner-bench --quiet
	$(CARGO) build $(FAST) --package lanner-agent --example open_close --quiet
	target/debug/lanner-bench
	target/debug/examples/policy
	target/debug/examples/intake

fuzz: ## each fuzz target for a minute (needs a nightly toolchain and cargo-fuzz)
	@for target in $$(cd fuzz && cargo +nightly fuzz list); do \
	  (cd fuzz && cargo +nightly fuzz run $$target -- -max_total_time=60) || exit 1; done

clean:
	$(CARGO) clean
	rm -rf functions/target
