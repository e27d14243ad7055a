//! The pipeline against a look-alike of upstream: the rules that must hold.

#![expect(clippy::unwrap_used, reason = "tests")]

/// These same tests run on S3 and SQS in `../aws`.
const BACKEND: fixture::Backend = fixture::Backend::Local;

/// How often tests are repeated that differ from seed to seed.
const SEEDS: u64 = 6;

/// Up to which call of each operation fails.
const NTHS: u64 = 3;

mod airgap;
mod batches;
mod bytes;
mod contract;
mod dead_letters;
mod faults;
mod fixture;
mod flaky;
mod hashes;
mod hashes_damage;
mod hashes_export;
mod hashes_faults;
mod hashes_meddled;
mod hashes_trust;
mod layouts;
mod mending;
mod publishing;
mod readme;
mod real_catalogue;
mod replaced;
mod retirement;
mod settling;
mod terraform;
mod upstream;
mod verify;
mod verify_published;
mod verify_rebuild;
mod verify_repair;
mod writers;
