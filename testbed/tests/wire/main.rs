//! The look-alike and the scripted client, over real connections.

#![expect(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

mod api;
mod brew;
mod client;
mod faults;
mod flat;
mod mirror;
mod refusals;
mod swap;
mod taps;
mod upstream;
