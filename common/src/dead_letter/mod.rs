//! Bottles that were given up on: why, and how they are told apart.

mod desk;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::queue::{Delivery, Outgoing};

pub use desk::{Deed, Desk, DeskError, DeskLane, GoneThrough, Letter};

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

/// What is known of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// In a sentence, without signed URLs; at most [`LONGEST_DETAIL`] bytes.
    pub detail: String,
    /// How often the message was received; zero where nobody knows.
    pub attempts: u32,
    /// When it was given up on.
    pub at: Timestamp,
}

/// Details are cut to this many bytes: they travel as message attributes.
pub const LONGEST_DETAIL: usize = 1000;

impl Failure {
    /// A failure, its detail cut to size.
    pub fn new(reason: Reason, detail: &str, attempts: u32, at: Timestamp) -> Self {
        let end = (0..=detail.len().min(LONGEST_DETAIL))
            .rev()
            .find(|end| detail.is_char_boundary(*end))
            .unwrap_or(0);
        Self { reason, detail: detail[..end].to_owned(), attempts, at }
    }

    /// The dead letter of a message: its body as it was, the failure beside it.
    pub fn dead_letter(&self, body: &str) -> Outgoing {
        let attributes = [
            ("reason", self.reason.to_string()),
            ("detail", self.detail.clone()),
            ("attempts", self.attempts.to_string()),
            ("failed_at", self.at.to_string()),
        ];
        // SQS takes no empty attribute.
        let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty());
        Outgoing {
            body: body.to_owned(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

/// A message in a dead-letter queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The message's body, as it was sent.
    pub body: String,
    /// What it says, where it can be read.
    pub message: Option<Message>,
    /// Why it is there.
    pub failure: Failure,
}

impl DeadLetter {
    /// Reads a delivery from a dead-letter queue.
    pub fn read(delivery: &Delivery) -> Self {
        let attribute = |name: &str| delivery.attributes.get(name).map(String::as_str);
        let failure = match attribute("reason").and_then(|text| text.parse().ok()) {
            Some(reason) => Failure {
                reason,
                detail: attribute("detail").unwrap_or_default().to_owned(),
                attempts: attribute("attempts").and_then(|text| text.parse().ok()).unwrap_or(0),
                at: attribute("failed_at").and_then(|text| text.parse().ok()).unwrap_or(delivery.sent_at),
            },
            // The queue itself moved it: nobody lived to say why.
            None => Failure {
                reason: Reason::Crashed,
                detail: "no process lived long enough to say why".to_owned(),
                attempts: attribute("attempts").and_then(|text| text.parse().ok()).unwrap_or(0),
                at: delivery.sent_at,
            },
        };
        Self { body: delivery.body.clone(), message: Message::parse(&delivery.body).ok(), failure }
    }
}

/// How many dead letters there are of each reason.
pub type ByReason = BTreeMap<Reason, u64>;
