# Each goal installs what it misses (scripts/install.sh), and says so.
# rustup's programs, also in a shell that was opened before rustup was installed.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.PHONY: run test test-quick test-vm perf fuzz fmt clean help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

run: ## build, start a node, prove it, serve iSCSI on 127.0.0.1:3260 and NVMe/TCP on :4420 (DEVICE=emulated, or a PCI address)
	@DEVICE="$(DEVICE)" exec scripts/run.sh

test: ## every test: unit, model, simulation, real initiators, kill -9, hostile peers
	@scripts/install.sh test && scripts/test.sh

test-quick: ## what is worth waiting for before each commit
	@scripts/install.sh test && scripts/test.sh --quick

test-vm: ## Linux's own initiators (open-iscsi, sg3-utils, NVMe/TCP) before Vega in a guest, without root
	@scripts/install.sh vm && scripts/test.sh vm

perf: ## measure against tgt and istgt (and SPDK, where SPDK_DIR names a built one) on this machine
	@scripts/install.sh perf && cargo build --release --package vega && python3 perf/run.py

fuzz: ## every fuzz target for 60 s (SECONDS=n)
	@scripts/install.sh fuzz && scripts/fuzz.sh $(or $(SECONDS),60)

fmt: ## format everything
	@cargo fmt --all

clean: ## remove build products, keep vega-data
	@cargo clean
