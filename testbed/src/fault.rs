//! Answers that fail, stall or lie, on demand.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::glob::matches;
use crate::sync::lock;

/// What goes wrong with an answer.
///
/// As JSON, names are in snake case and durations are whole milliseconds:
/// `{"status": {"code": 429, "retry_after": "2"}}`,
/// `{"stall": {"after_bytes": 1000, "for": 5000}}`, `{"delay": 250}`, `"corrupt"`.
///
/// Faults of a body act only on answers that have the body in question: not on
/// redirects, refusals and HEAD. Those of a range act only on requests for a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This status in place of the answer.
    Status {
        /// The HTTP status, 200–599.
        code: u16,
        /// The value of `Retry-After`, sent as it is: seconds or an HTTP date.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// Some of the body, then nothing for a while, then the rest.
    Stall {
        /// Bytes of the body before the pause; at least one byte is left for after it.
        after_bytes: u64,
        /// How long nothing comes.
        #[serde(with = "milliseconds")]
        r#for: Duration,
    },
    /// A `Content-Length` for all of the body, but the connection closes early.
    Truncate {
        /// Bytes of the body that are sent; at least one byte is missing.
        after_bytes: u64,
    },
    /// The object is cut to a length, and says so in `Content-Length`.
    Short {
        /// Bytes of the object that there are.
        bytes: u64,
    },
    /// Zero bytes follow the object, and are counted in `Content-Length`.
    Long {
        /// Bytes that follow.
        extra: u64,
    },
    /// The byte in the middle of what is sent is another one.
    Corrupt,
    /// The connection is reset (TCP RST) before any answer.
    Reset,
    /// The range is ignored: 200 and the whole body.
    NoRange,
    /// 416 for any range.
    RangeRefused,
    /// The bytes asked for under a `Content-Range` that says otherwise.
    WrongContentRange,
    /// An image index without its `sh.brew.bottle.size` annotations.
    MissingSize,
    /// An image index without the entry of one tag.
    MissingEntry {
        /// The bottle's tag, such as `arm64_tahoe`.
        tag: String,
    },
    /// A short page of HTML in place of the body, as some proxies give.
    Garbage,
    /// The answer comes later. Other faults apply on top of it.
    Delay(#[serde(with = "milliseconds")] Duration),
    /// 307 to this address in place of the answer.
    RedirectTo(String),
}

/// Which of the requests that a fault can act on it does act on. They are counted
/// from 1, for each rule by itself, since it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// All of them.
    Always,
    /// So many, then no more.
    First(u32),
    /// That one alone.
    Nth(u32),
    /// All but the first so many.
    After(u32),
    /// One in so many: the n-th, the 2n-th and so on.
    Every(u32),
}

/// The rules in force. Of several that match a request, the newest whose [`Times`]
/// say so acts; the older ones don't count that request. Delays are apart: they add
/// up, and another fault may follow.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
}

#[derive(Debug)]
struct Rule {
    pattern: String,
    fault: Fault,
    times: Times,
    seen: u32,
}

/// What can be done to the answer at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request has come; nothing was looked at yet. Delays are left out.
    Arrival,
    /// A body is about to be sent.
    Body { ranged: bool, index: bool },
}

impl Faults {
    /// Adds a rule. The pattern is matched against the server's name and the path
    /// without the query, such as `registry:/v2/homebrew/core/openssl/3/manifests/3.6.0`,
    /// `cdn:/ghcr1/blobs/sha256:…`, `files:/example/tools/name-1.0.all.bottle.tar.gz` and
    /// `api:/api/formula.json`; `*` stands for any text, slashes included. Paths are as they
    /// were sent, so an escaped name stays escaped. `*sha256:…` acts on both servers that know the digest.
    pub fn set(&self, pattern: &str, fault: Fault, times: Times) {
        let pattern = pattern.to_owned();
        lock(&self.rules).push(Rule { pattern, fault, times, seen: 0 });
    }

    /// Removes every rule.
    pub fn clear(&self) {
        lock(&self.rules).clear();
    }

    /// Removes the rules that were set with exactly this pattern.
    pub fn clear_pattern(&self, pattern: &str) {
        lock(&self.rules).retain(|rule| rule.pattern != pattern);
    }

    /// The sum of the delays for a request.
    pub(crate) fn delay(&self, target: &str) -> Duration {
        let mut rules = lock(&self.rules);
        let mut sum = Duration::ZERO;
        for rule in rules.iter_mut() {
            if let Fault::Delay(delay) = rule.fault
                && matches(&rule.pattern, target)
                && rule.count()
            {
                sum += delay;
            }
        }
        sum
    }

    /// The fault that acts on a request at this stage; it is counted as having acted.
    pub(crate) fn take(&self, target: &str, stage: Stage) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let rule = rules.iter_mut().rev().find_map(|rule| {
            let acts = rule.fault.acts(stage) && matches(&rule.pattern, target) && rule.count();
            acts.then_some(rule)
        })?;
        Some(rule.fault.clone())
    }
}

impl Rule {
    /// Counts one request and says if it is one to act on.
    fn count(&mut self) -> bool {
        self.seen = self.seen.saturating_add(1);
        match self.times {
            Times::Always => true,
            Times::First(n) => self.seen <= n,
            Times::Nth(n) => self.seen == n,
            Times::After(n) => self.seen > n,
            Times::Every(n) => n > 0 && self.seen.is_multiple_of(n),
        }
    }
}

impl Fault {
    fn acts(&self, at: Stage) -> bool {
        match self {
            Self::Delay(_) => false,
            Self::Status { .. } | Self::Reset | Self::RedirectTo(_) => at == Stage::Arrival,
            Self::NoRange | Self::RangeRefused | Self::WrongContentRange => {
                matches!(at, Stage::Body { ranged: true, .. })
            }
            Self::MissingSize | Self::MissingEntry { .. } => {
                matches!(at, Stage::Body { index: true, .. })
            }
            Self::Stall { .. }
            | Self::Truncate { .. }
            | Self::Short { .. }
            | Self::Long { .. }
            | Self::Corrupt
            | Self::Garbage => matches!(at, Stage::Body { .. }),
        }
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: Stage = Stage::Body { ranged: false, index: false };

    fn acted(times: Times, requests: usize) -> Vec<bool> {
        let faults = Faults::default();
        faults.set("cdn:*", Fault::Corrupt, times);
        (0..requests).map(|_| faults.take("cdn:/x", BODY).is_some()).collect()
    }

    #[test]
    fn times_say_which_requests_are_hit() {
        assert_eq!(acted(Times::Always, 3), [true; 3]);
        assert_eq!(acted(Times::First(2), 3), [true, true, false]);
        assert_eq!(acted(Times::Nth(2), 3), [false, true, false]);
        assert_eq!(acted(Times::After(1), 3), [false, true, true]);
        assert_eq!(acted(Times::Every(2), 5), [false, true, false, true, false]);
    }

    #[test]
    fn a_fault_counts_only_the_requests_that_it_can_act_on() {
        let faults = Faults::default();
        faults.set("*sha256:ab", Fault::NoRange, Times::First(1));
        let target = "cdn:/ghcr1/blobs/sha256:ab";
        assert_eq!(faults.take(target, Stage::Arrival), None);
        assert_eq!(faults.take(target, BODY), None);
        let ranged = Stage::Body { ranged: true, index: false };
        assert_eq!(faults.take(target, ranged), Some(Fault::NoRange));
        assert_eq!(faults.take(target, ranged), None);
    }

    #[test]
    fn the_newest_rule_wins_until_it_is_used_up() {
        let faults = Faults::default();
        let status = |code| Fault::Status { code, retry_after: None };
        faults.set("cdn:*", status(500), Times::Always);
        faults.set("cdn:/x", status(429), Times::First(1));
        let take = || faults.take("cdn:/x", Stage::Arrival);
        assert_eq!(take(), Some(status(429)));
        assert_eq!(take(), Some(status(500)));
        faults.clear_pattern("cdn:*");
        assert_eq!(take(), None);
    }

    #[test]
    fn delays_add_up_and_leave_room_for_another_fault() {
        let faults = Faults::default();
        faults.set("*", Fault::Delay(Duration::from_millis(5)), Times::Always);
        faults.set("api:*", Fault::Delay(Duration::from_millis(7)), Times::First(1));
        faults.set("api:*", Fault::Reset, Times::Always);
        assert_eq!(faults.delay("api:/x"), Duration::from_millis(12));
        assert_eq!(faults.delay("api:/x"), Duration::from_millis(5));
        assert_eq!(faults.take("api:/x", Stage::Arrival), Some(Fault::Reset));
        faults.clear();
        assert_eq!(faults.delay("api:/x"), Duration::ZERO);
    }

    #[test]
    fn faults_are_written_in_json_as_documented() {
        let parse = |text: &str| serde_json::from_str::<Fault>(text).unwrap();
        assert_eq!(
            parse(r#"{"status": {"code": 429, "retry_after": "2"}}"#),
            Fault::Status { code: 429, retry_after: Some("2".into()) }
        );
        assert_eq!(parse(r#"{"status": {"code": 500}}"#), Fault::Status { code: 500, retry_after: None });
        assert_eq!(
            parse(r#"{"stall": {"after_bytes": 1000, "for": 5000}}"#),
            Fault::Stall { after_bytes: 1000, r#for: Duration::from_secs(5) }
        );
        assert_eq!(parse(r#"{"delay": 250}"#), Fault::Delay(Duration::from_millis(250)));
        assert_eq!(parse(r#""corrupt""#), Fault::Corrupt);
        assert_eq!(parse(r#"{"redirect_to": "http://x/"}"#), Fault::RedirectTo("http://x/".into()));
        assert_eq!(serde_json::from_str::<Times>(r#"{"first": 2}"#).unwrap(), Times::First(2));
        assert_eq!(serde_json::from_str::<Times>(r#""always""#).unwrap(), Times::Always);
    }
}
