//! Why a bottle was given up on, in one word.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a bottle was given up on, as one word that a command or a metric takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Upstream doesn't have it (404, 410).
    NotFound,
    /// Its bytes hash to something else, twice.
    WrongDigest,
    /// It is longer or shorter than announced, twice.
    WrongSize,
    /// The registry refuses a fresh token too (401, 403).
    Unauthorized,
    /// Its host, or that of a redirect, is not allowed.
    HostNotAllowed,
    /// Upstream kept answering 429 or 5xx.
    UpstreamFailing,
    /// No connection to upstream held.
    UpstreamUnreachable,
    /// Upstream answered what nothing here expects.
    UpstreamUnexpected,
    /// The message can't be read.
    MalformedMessage,
    /// The message is of another version of this system.
    UnknownVersion,
    /// The mirror's own store kept failing.
    StoreFailing,
    /// The code failed on it: a defect of this system.
    Panicked,
    /// A process died with it in hand, again and again; nothing else is known.
    Crashed,
}

/// The reasons and their names, as `--reason` takes them.
pub const REASONS: [(Reason, &str); 13] = [
    (Reason::NotFound, "not-found"),
    (Reason::WrongDigest, "wrong-digest"),
    (Reason::WrongSize, "wrong-size"),
    (Reason::Unauthorized, "unauthorized"),
    (Reason::HostNotAllowed, "host-not-allowed"),
    (Reason::UpstreamFailing, "upstream-failing"),
    (Reason::UpstreamUnreachable, "upstream-unreachable"),
    (Reason::UpstreamUnexpected, "upstream-unexpected"),
    (Reason::MalformedMessage, "malformed-message"),
    (Reason::UnknownVersion, "unknown-version"),
    (Reason::StoreFailing, "store-failing"),
    (Reason::Panicked, "panicked"),
    (Reason::Crashed, "crashed"),
];

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        REASONS.iter().find(|(reason, _)| *reason == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        REASONS.iter().find(|(_, name)| *name == text).map(|(reason, _)| *reason).ok_or_else(|| {
            let names: Vec<_> = REASONS.iter().map(|(_, name)| *name).collect();
            format!("{text:?} is no reason; the reasons are {}", names.join(", "))
        })
    }
}

/// How many dead letters there are of each reason.
pub type ByReason = BTreeMap<Reason, u64>;
