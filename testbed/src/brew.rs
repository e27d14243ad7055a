//! A scripted `brew`: asks a mirror what the real one asks, in its order and with its
//! headers, and refuses what the real one refuses.
//!
//! It stands for a machine with `HOMEBREW_ARTIFACT_DOMAIN` set to the mirror and
//! `HOMEBREW_API_DOMAIN` to `/api` below it, without a way anywhere else. Each request has
//! a connection of its own, as each is a `curl` of its own. The API's payload and signature
//! are those of this crate's look-alike.

mod api;
mod bottle;
mod error;
mod http;
mod tap;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use crate::sync::lock;
use api::Package;
pub use api::Update;
pub use bottle::Installed;
pub use error::BrewError;
use http::{Origin, Reply, Request};

/// The token that brew sends by itself: the same for everyone.
const ANONYMOUS: &str = "Bearer QQ==";

/// One client of a mirror. What it has read of the API it keeps for the next
/// [`update`](Self::update).
#[derive(Debug)]
pub struct Brew {
    origin: Origin,
    tag: String,
    generation: Generation,
    with_token: bool,
    /// Of the Ruby that is still to be fetched.
    ruby: Option<String>,
    /// By path: the date of the copy that is held, if it had one.
    copies: HashMap<String, Option<String>>,
    /// By name, what the copy says for this tag.
    packages: BTreeMap<String, Package>,
    asked: Mutex<Vec<Asked>>,
}

/// Which files of the API a client reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// `internal/packages.<tag>.jws.json` alone.
    #[default]
    Current,
    /// Brew 4 and 5: formulae, casks, and the tap migrations of both.
    Older,
}

/// A request that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET` or `HEAD`.
    pub method: &'static str,
    /// As it was sent.
    pub path: String,
    /// Of the answer; 0 if there was none.
    pub status: u16,
}

impl Brew {
    /// A client of the mirror at an address such as `http://127.0.0.1:8080`, on the
    /// platform of a bottle tag. It is of the current generation and sends no token. It
    /// knows nothing until its first [`update`](Self::update).
    pub fn new(mirror: &str, tag: &str) -> Self {
        Self {
            origin: Origin::new(mirror),
            tag: tag.to_owned(),
            generation: Generation::default(),
            with_token: false,
            ruby: None,
            copies: HashMap::new(),
            packages: BTreeMap::new(),
            asked: Mutex::default(),
        }
    }

    /// The same client, of the older generation.
    #[must_use]
    pub fn older(self) -> Self {
        Self { generation: Generation::Older, ..self }
    }

    /// The same client without `HOMEBREW_DOCKER_REGISTRY_BASIC_AUTH_TOKEN=none`: it sends
    /// `Authorization: Bearer QQ==` for indexes and for Ruby.
    #[must_use]
    pub fn with_token(self) -> Self {
        Self { with_token: true, ..self }
    }

    /// The same client on a fresh machine: before it asks for anything else it fetches the
    /// Ruby that brew itself runs on, by the digest that stands in its source.
    #[must_use]
    pub fn fresh(self, ruby: &str) -> Self {
        Self { ruby: Some(ruby.to_owned()), ..self }
    }

    /// What was asked so far, in order.
    pub fn requests(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }

    fn token(&self) -> Option<&'static str> {
        self.with_token.then_some(ANONYMOUS)
    }

    /// Sends a request for a path below the mirror's address.
    async fn ask(&self, request: Request<'_>) -> Result<Reply, BrewError> {
        let (method, path) = (request.method, self.origin.path(request.path));
        let reply = self.origin.exchange(request).await;
        let status = reply.as_ref().map_or(0, |reply| reply.status);
        lock(&self.asked).push(Asked { method, path: path.clone(), status });
        reply.map_err(|source| BrewError::Transport { path, source })
    }
}
