# The main targets are `demo` and `test`. `make help` lists the others.

CARGO ?= cargo
LIBRARIES := target/release/libout_syslog_sink.so target/release/libin_pod_logs.so

.PHONY: help demo demo-cluster test build fmt clippy unit doc deny instructions bindings golden bench fuzz scale e2e reliability packages clean

help:
	@echo "make demo          deliver container logs to a syslog receiver over TLS, and show the result"
	@echo "make demo-cluster  sinks in a Kubernetes cluster, with kubectl"
	@echo "make test          run all tests and checks"
	@echo "make build         build the plugins: $(LIBRARIES)"
	@echo "make bench         measure speed and memory, and update docs/BENCHMARKS.md"
	@echo "make fuzz          run each fuzz target for a limited time"
	@echo "make reliability   run all fault scenarios, and update the tables of docs/RELIABILITY.md"
	@echo "make scale         run the controller with 1,000 nodes and 500 sinks, and update docs/SCALE.md"
	@echo "make e2e           end-to-end test on a real Kubernetes node (as root)"
	@echo "make golden        regenerate the CRDs, install.yaml and the golden configuration (review the diff)"
	@echo "make bindings      regenerate the C bindings of fluent-bit/ from their header"

demo: toolchain
	@$(CARGO) run --quiet --package demo

demo-cluster: toolchain packages
	@echo "Building the controller and the demo (the first time takes ten minutes) ..."
	@$(CARGO) build --quiet --package controller --package demo-cluster
	@target/debug/demo-cluster

test: toolchain packages fmt clippy build unit doc instructions deny

build:
	$(CARGO) build --release --package plugin --package pod-logs

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --quiet -- --deny warnings

# All targets except benchmarks, which need a separate runner.
unit:
	$(CARGO) test --workspace --tests --no-fail-fast -- --nocapture

# `--tests` does not include documentation tests.
doc:
	$(CARGO) test --workspace --doc
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --quiet

# The number of instructions of each part of the hot path, with a limit. The library and its
# runner must have the same version.
GUNGRAUN := $(shell sed -n '/^name = "gungraun"$$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)
RUNNER := target/tools/gungraun-$(GUNGRAUN)/bin/gungraun-runner
instructions:
	@if command -v valgrind >/dev/null; then \
		test -x $(RUNNER) || $(CARGO) install gungraun-runner --version $(GUNGRAUN) \
			--locked --quiet --root target/tools/gungraun-$(GUNGRAUN) && \
		GUNGRAUN_RUNNER=$(CURDIR)/$(RUNNER) $(CARGO) bench --package mapper --bench instructions; \
	else \
		echo "skipped: valgrind is not installed"; \
	fi

deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --workspace check bans licenses sources; \
	else \
		echo "skipped: cargo deny is not installed (cargo install cargo-deny)"; \
	fi

bindings:
	$(CARGO) run --package bindings

golden:
	UPDATE_GOLDEN=1 $(CARGO) test --package api --test crds
	UPDATE_GOLDEN=1 $(CARGO) test --package controller --lib
	UPDATE_GOLDEN=1 $(CARGO) test --package controller --test api chart::the_plain

# PART=cpu (or peers, throughput, latency, sinks, choices) prints only that part.
bench:
	$(CARGO) run --release --package bench -- $(PART)

# Seconds for each target. Without a sanitizer, no nightly Rust is required: the
# code under test has no unsafe code. New inputs are not added to the corpus.
FUZZ_SECONDS ?= 30
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
		echo "cargo fuzz is missing: cargo install cargo-fuzz --locked"; exit 1; }
	for target in chunk relp queue line positions; do \
		mkdir -p fuzz/target/found/$$target && \
		$(CARGO) fuzz run --sanitizer none $$target \
			fuzz/target/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit 1; \
	done

# NODES="30 100 20" runs a small cluster: nodes, pods, sinks.
scale:
	$(CARGO) build --profile controller --package controller --package scale
	target/controller/scale $(NODES)

# End to end on a real node, if this machine can run one.
e2e: packages
	$(CARGO) test --package controller --test api node:: -- --nocapture

reliability:
	RELIABILITY=full $(CARGO) run --release --package faults

clean:
	$(CARGO) clean

# The packages that the tests need besides Rust: installed if possible, otherwise listed.
# Tests whose packages are missing are skipped with a message. syslog-ng is unpacked into a
# separate folder, because its package would replace rsyslog's.
PACKAGES := gcc rsyslog rsyslog-openssl rsyslog-gnutls rsyslog-relp valgrind libclang-dev \
	iproute2 ethtool containerd runc containernetworking-plugins iptables busybox-static \
	docker.io docker-compose debootstrap e2fsprogs
packages:
	@tests/install-packages $(PACKAGES)
	@tests/unpack-syslog-ng >/dev/null || true

.PHONY: toolchain
toolchain:
	@command -v $(CARGO) >/dev/null || { \
		echo "Rust is missing: install rustup, which reads rust-toolchain.toml (https://rustup.rs)"; exit 1; }
	@command -v cc >/dev/null || { \
		echo "A C compiler is missing (Debian: gcc)"; exit 1; }
