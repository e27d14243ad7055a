//! The pipeline on S3 and SQS, in an emulator: the same rules, by the same tests.

#![expect(clippy::unwrap_used, reason = "tests")]

/// These same tests run on a folder and the embedded queues in `../it`.
const BACKEND: fixture::Backend = fixture::Backend::Aws;

/// How often tests are repeated that differ from seed to seed.
const SEEDS: u64 = 1;

/// Up to which call of each operation fails.
const NTHS: u64 = 1;

#[path = "../it/airgap/mod.rs"]
mod airgap;
#[path = "../it/batches.rs"]
mod batches;
#[path = "../it/bytes.rs"]
mod bytes;
#[path = "../it/dead_letters.rs"]
mod dead_letters;
#[path = "../it/faults.rs"]
mod faults;
#[path = "../it/fixture.rs"]
mod fixture;
#[path = "../it/flaky.rs"]
mod flaky;
#[path = "../it/hashes.rs"]
mod hashes;
#[path = "../it/hashes_damage.rs"]
mod hashes_damage;
#[path = "../it/hashes_export.rs"]
mod hashes_export;
#[path = "../it/hashes_faults.rs"]
mod hashes_faults;
#[path = "../it/hashes_meddled.rs"]
mod hashes_meddled;
#[path = "../it/hashes_trust.rs"]
mod hashes_trust;
#[path = "../it/layouts.rs"]
mod layouts;
#[path = "../it/replaced.rs"]
mod replaced;
#[path = "../it/retirement.rs"]
mod retirement;
#[path = "../it/settling.rs"]
mod settling;
#[path = "../it/verify.rs"]
mod verify;
#[path = "../it/verify_published.rs"]
mod verify_published;
#[path = "../it/verify_rebuild.rs"]
mod verify_rebuild;
#[path = "../it/verify_repair.rs"]
mod verify_repair;
#[path = "../it/writers.rs"]
mod writers;
