//! The `bottles` command end to end: the real program against a look-alike of
//! upstream over real HTTP, in folders of its own.
#![expect(clippy::unwrap_used, reason = "a test that can't go on ends here")]

mod airgap;
mod airgap_state;
mod attention;
mod aws;
mod brew;
mod catalogue;
mod dead_letters;
mod demo;
mod env;
mod faults;
mod harness;
mod hashes;
mod hashes_bucket;
mod kill;
mod memory;
mod plan;
mod reader;
mod readers;
mod recovery;
mod repeat;
mod selection;
mod serve;
mod serve_places;
mod serve_process;
mod server;
mod stop;
mod together;
mod tree;
mod usage;
mod verify;
