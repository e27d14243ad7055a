# What is done with this repository, by name. `make` alone lists it.
.PHONY: help test e2e e2e-deploy packages check fmt demo bench deny

help:
	@echo "make test    all tests"
	@echo "make e2e     the deployed system, in an emulator of AWS"
	@echo "make e2e-deploy  the same, deployed by Terraform to the emulator"
	@echo "make packages  what Lambda runs, in build/"
	@echo "make check   format, lints, documentation: warnings are errors"
	@echo "make fmt     format the code"
	@echo "make demo    the whole pipeline at work, on this machine"
	@echo "make bench   the figures of README.md, measured on this machine"
	@echo "make deny    licences, sources and advisories of the dependencies (cargo-deny)"

test:
	cargo test --workspace --locked
	scripts/test-deploy.sh
	scripts/test-terraform.sh

packages:
	scripts/build-lambda-packages.sh

e2e: packages
	cargo test --workspace --locked --no-run
	cargo test --workspace --locked --test e2e a_scheduled_run -- --ignored --nocapture

e2e-deploy: packages
	cargo test --workspace --locked --no-run
	cargo test --workspace --locked --test e2e an_applied_stage -- --ignored --nocapture

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
