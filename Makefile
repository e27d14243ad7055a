# What is done with this repository, by name. `make` alone lists it.
.PHONY: help test check fmt demo bench deny

help:
	@echo "make test    all tests"
	@echo "make check   format, lints, documentation: warnings are errors"
	@echo "make fmt     format the code"
	@echo "make demo    the whole pipeline at work, on this machine"
	@echo "make bench   the figures of README.md, measured on this machine"
	@echo "make deny    licences, sources and advisories of the dependencies (cargo-deny)"

test:
	cargo test --workspace --locked

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

fmt:
	cargo fmt --all

demo:
	cargo run --release --locked -- demo

bench:
	scripts/bench.sh

deny:
	cargo deny check
