# Everything that is done with Halloo, by name. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where scripts/deps.sh puts a newer Node.js than the system's, if that is needed.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)
ifeq ($(NEXTEST),yes)
CARGO_TEST := cargo nextest run --release
else
CARGO_TEST := cargo test --release
endif

TARGET := $(or $(CARGO_TARGET_DIR),target)
HALLOO := $(TARGET)/release/halloo
WEB_SOURCES := $(shell find web -type f -not -path '*/node_modules/*' -not -path 'web/dist/*' 2>/dev/null)

SAY_IF_COLD := test -x $(HALLOO) || echo "==> building: the first time takes some ten minutes on two cores, as Opus, libaom and dav1d are built from source"

.PHONY: help deps web build demo test unit lint bench fuzz generate

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

deps: ## install what building and testing need (Debian packages by apt, npm packages)
	@scripts/deps.sh

web: deps web/dist/index.html ## build the browser client that the binary carries

web/dist/index.html: $(WEB_SOURCES)
	@echo "==> building the browser client"
	@cd web && npm run --silent build
	@touch $@

build: web ## build the `halloo` command
	@$(SAY_IF_COLD)
	@cargo build --release -p halloo

demo: build ## two endpoints call each other, then six meet in a room; ends with a report of what each heard and saw
	@$(HALLOO) demo --seconds 10 --json target/demo/report.json --out target/demo

unit: web ## the unit tests alone
	@echo "==> unit tests"
	@$(CARGO_TEST) --workspace --lib

test: web ## every test: documentation, embedder, browser client, browsers, whole system
	@$(SAY_IF_COLD)
	@echo "==> building everything"
	@$(CARGO_TEST) --workspace --no-run
	@echo "==> documentation tests"
	@cargo test --release --workspace --doc --quiet
	@echo "==> an embedder outside the workspace, without and with default features"
	@scripts/embedder.sh
	@echo "==> the browser client's own tests"
	@cd web && npm test --silent
	@echo "==> real browsers and libwebrtc"
	@cd tests/browser && HALLOO="$(abspath $(HALLOO))" npm test --silent
	@echo "==> unit tests and the whole system: real processes on loopback"
	@$(CARGO_TEST) --workspace

lint: web ## formatting, clippy, dependency rules and licences, TypeScript
	@echo "==> rustfmt"
	@cargo fmt --all --check
	@echo "==> clippy"
	@cargo clippy --release --workspace --all-targets -- -D warnings
	@echo "==> directions of dependencies"
	@$(CARGO_TEST) -p halloo --test dependencies
	@echo "==> TypeScript"
	@cd web && npm run --silent check
	@echo "==> licences, bans and sources of dependencies"
	@scripts/deny.sh

bench: build ## print every figure beside its reference (ONLY=name for one)
	@scripts/bench.sh $(ONLY)

fuzz: deps ## run every fuzz target for a moment (SECONDS_EACH=10)
	@scripts/fuzz.sh $(or $(SECONDS_EACH),10)

generate: deps ## write the JSON Schema and the TypeScript types again from the Rust types
	@HALLOO_BLESS=1 $(CARGO_TEST) -p halloo-protocol --lib schema
	@cd web && npm run --silent generate
