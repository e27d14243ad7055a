//! A look-alike of formulae.brew.sh and ghcr.io over real HTTP on loopback.
//!
//! [`Spec`] describes what upstream publishes: 40 formulae with realistic names
//! ([`Spec::demo`]), tens of thousands of bottles ([`Spec::bulk`]) or a few large
//! ones ([`Spec::uniform`]), and other taps ([`TapSpec`]). [`Upstream`] serves it from
//! four ports: the API, the registry, the host that the registry redirects to, and a
//! plain host of flat files. Bottles are computed, not stored, so their number and size
//! are free. [`Faults`] makes chosen answers fail, stall or lie; [`RequestLog`] says what
//! was asked. [`brew::Brew`] is the other side: a client that asks a mirror what `brew`
//! asks.
//!
//! The crate shares no code with the client that it tests: names, keys and addresses
//! are worked out here a second time, so that a mistake in one does not hide itself.
//!
//! ```
//! # fn main() -> anyhow::Result<()> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use testbed::{Fault, Spec, Times, Upstream};
//!
//! let upstream = Upstream::start(Spec::uniform(7, 2, 10_000, &["x86_64_linux"])).await?;
//! let bottle = &upstream.expected()[0];
//! upstream.faults().set(
//!     &format!("cdn:*{}", bottle.digest),
//!     Fault::Truncate { after_bytes: 100 },
//!     Times::First(1),
//! );
//! assert_eq!(bottle.size, 10_000);
//! # Ok(())
//! # })
//! # }
//! ```

pub mod brew;
#[cfg(feature = "emulator")]
mod bucket;
pub mod catalogue;
#[cfg(feature = "emulator")]
mod cloud;
mod content;
mod demo;
mod draft;
mod elements;
#[cfg(feature = "emulator")]
mod emulator;
mod escape;
pub mod fault;
mod glob;
mod index;
pub mod log;
mod places;
mod platform;
mod published;
mod random;
mod signed;
mod sync;
mod tap;
pub mod upstream;

#[cfg(feature = "emulator")]
pub use bucket::Bucket;
pub use catalogue::{BottleSpec, FormulaSpec, Spec};
#[cfg(feature = "emulator")]
pub use cloud::{Cloud, Function, MOST_RECEIVES};
pub use demo::Planted;
#[cfg(feature = "emulator")]
pub use emulator::{Emulator, aws_config_for};
pub use fault::{Fault, Faults, Times};
pub use log::{Entry, RequestLog, Server};
pub use tap::{TapRoot, TapSpec};
pub use upstream::{ExpectedBottle, ExpectedTapBottle, Ports, Upstream};
