//! The domain of a Homebrew bottle mirror and its ports.
//!
//! Read from the top: [`bottle`] names things, [`catalogue`] says what upstream
//! offers, [`selection`] what of it is wanted, [`manifest`] what the mirror
//! holds. [`plan`] subtracts the last from the first two and queues the rest,
//! [`mirror`] moves one bottle, [`worker`] drains a queue of them, [`settle`]
//! folds what the workers reported back into the manifest. [`verify`] compares the
//! manifest with what is really there.
//!
//! The outside world is reached through two ports, [`queue`] and [`store`], and
//! one client, [`registry`]. Every deployable runs this same code.

#[cfg(feature = "local")]
pub mod airgap;
pub mod aws;
pub mod bottle;
pub mod catalogue;
pub mod clock;
pub mod config;
pub mod dead_letter;
pub mod ecs;
#[cfg(feature = "local")]
pub mod hash_file;
pub mod invocation;
pub mod manifest;
pub mod message;
pub mod metrics;
pub mod mirror;
pub mod notify;
#[cfg(feature = "local")]
pub mod owner;
pub mod pipeline;
pub mod plan;
pub mod publication;
pub mod queue;
pub mod receipt;
pub mod registry;
pub mod retire;
pub mod retry;
pub mod run;
pub mod selection;
pub mod service;
pub mod settle;
pub mod size;
pub mod store;
pub mod telemetry;
pub mod verify;
pub mod worker;
