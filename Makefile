# Two commands do everything: `make demo` and `make test`. `make help` lists
# the others.

CARGO ?= cargo
LIBRARY := target/release/libout_syslog_sink.so

.PHONY: help demo demo-cluster test build fmt clippy unit doc deny instructions bindings golden bench fuzz scale e2e reliability packages clean

help:
	@echo "make demo      container logs to a syslog receiver over TLS, before your eyes"
	@echo "make demo-cluster  sinks in a cluster, with kubectl"
	@echo "make test      all tests and checks"
	@echo "make build     the plugin: $(LIBRARY)"
	@echo "make bench     speed and memory, into docs/BENCHMARKS.md"
	@echo "make fuzz      a bounded run of each fuzz target"
	@echo "make reliability  all faults once, into the tables of docs/RELIABILITY.md"
	@echo "make scale     the controller with 1,000 nodes and 500 sinks, into docs/SCALE.md"
	@echo "make e2e       the whole on a real node of Kubernetes (as root)"
	@echo "make golden    CRDs, install.yaml and the golden configuration, anew, to be looked at"
	@echo "make bindings  the plugin's C bindings, anew from its header"

demo: toolchain
	@$(CARGO) run --quiet --package demo

demo-cluster: toolchain packages
	@echo "Building what is needed (the first time takes ten minutes) ..."
	@$(CARGO) build --quiet --package controller --package demo-cluster
	@target/debug/demo-cluster

test: toolchain packages fmt clippy build unit doc instructions deny

build:
	$(CARGO) build --release --package plugin

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --quiet -- --deny warnings

# All targets but benchmarks, which need a runner of their own.
unit:
	$(CARGO) test --workspace --tests --no-fail-fast -- --nocapture

# Documentation tests are asked for on their own.
doc:
	$(CARGO) test --workspace --doc
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --quiet

# The hot path's instructions, each with its ceiling. The library and its runner
# have to be of one version.
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

# PART=cpu (or peers, throughput, latency, sinks, choices) prints that part alone.
bench:
	$(CARGO) run --release --package bench -- $(PART)

# Seconds for each target. Without a sanitizer it needs no nightly Rust: the
# code under test has no unsafe code. What is found new stays out of the corpus.
FUZZ_SECONDS ?= 30
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
		echo "cargo fuzz is missing: cargo install cargo-fuzz --locked"; exit 1; }
	for target in chunk relp queue; do \
		mkdir -p fuzz/target/found/$$target && \
		$(CARGO) fuzz run --sanitizer none $$target \
			fuzz/target/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit 1; \
	done

# NODES="30 100 20" is a small one: nodes, pods, sinks.
scale:
	$(CARGO) build --profile controller --package controller --package scale
	target/controller/scale $(NODES)

# The whole on a real node, if this machine can be one.
e2e: packages
	$(CARGO) test --package controller --test api node:: -- --nocapture

reliability:
	RELIABILITY=full $(CARGO) run --release --package faults

clean:
	$(CARGO) clean

# What the tests need besides Rust: installed where that is possible, else
# named. Tests whose part is missing are skipped, and say so. syslog-ng is
# unpacked beside, because its package would replace rsyslog's.
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
