# make demo   people recognised on this machine, from nothing
# make test   everything that must pass; make clients is the part of it for the Python client
# make setup  what building and running need: the ONNX Runtime library, a C++ compiler

PROFILE ?= release
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
PROGRAM := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/facematch
BUF := .tools/node_modules/.bin/buf
# Tests that lack something of this machine, mostly real models and photos, name themselves here.
SKIPPED := $(TARGET)/skipped-tests

.PHONY: setup setup-tests build demo test format lint deploy-lint deny sbom baseline unit clients docs

setup:
	@scripts/setup.sh

setup-tests:
	@scripts/setup.sh tests

build: setup
	cargo build --locked --profile $(PROFILE)

demo: build
	@scripts/demo.sh $(PROGRAM)

test: setup-tests format lint deploy-lint deny sbom unit clients docs

format:
	cargo fmt --check

lint:
	$(BUF) lint proto
	$(BUF) breaking proto --against proto/baseline.binpb
	cargo clippy --locked --all-targets -- -D warnings
	@# The fuzzers have a lock of their own, which must follow.
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null

deploy-lint:
	@scripts/deploy-lint.sh

# What the contract must stay compatible with: that of the last release (docs/release.md).
baseline:
	$(BUF) build proto --exclude-source-info --output proto/baseline.binpb

# Known faults of dependencies (`cargo deny check advisories`) are asked about apart: their list is not a package.
deny:
	.tools/checks/bin/cargo-deny --locked check licenses bans sources

sbom:
	@mkdir -p $(TARGET)
	scripts/sbom.py > $(TARGET)/facematch.cdx.json
	.tools/checks/bin/python scripts/sbom_valid.py $(TARGET)/facematch.cdx.json

unit:
	@mkdir -p $(TARGET) && rm -f $(SKIPPED)
	FACEMATCH_SKIPPED=$(abspath $(SKIPPED)) cargo test --locked
	@if [ -s $(SKIPPED) ]; then \
	    echo "$$(wc -l < $(SKIPPED)) tests skipped: they need real models and photos (FACEMATCH_SHARED), or to mount a disk"; fi
	@for engine in postgres citus; do \
	    variable=FACEMATCH_TEST_$$(echo $$engine | tr a-z A-Z)_URL; \
	    if [ -n "$$(printenv $$variable)" ]; then cargo test --locked --test '*' -- --ignored named_$$engine || exit 1; \
	    else echo "NOT RUN: the tests on a $$engine server that you name ($$variable)"; fi; done

# The Python client, against the program that the tests were built with, or another.
clients: FACEMATCH_PROGRAM ?= $(abspath $(TARGET)/debug/facematch)
clients: CLIENT_PYTHON := $(abspath .venv-clients/bin/python)
clients:
	@[ -x $(FACEMATCH_PROGRAM) ] || cargo build --locked
	cd clients/python && $(CLIENT_PYTHON) -m ruff check --quiet . && $(CLIENT_PYTHON) -m ruff format --check --quiet . && \
	    $(CLIENT_PYTHON) -m mypy && FACEMATCH_PROGRAM=$(FACEMATCH_PROGRAM) $(CLIENT_PYTHON) -m pytest -q

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
