//! The pipeline against a look-alike of upstream: the rules that must hold.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bytes;
mod dead_letters;
mod faults;
mod fixture;
mod flaky;
mod readme;
mod real_catalogue;
mod settling;
mod upstream;
mod writers;
