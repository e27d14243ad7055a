//! What the four servers know in common.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use crate::catalogue::Spec;
use crate::content::Digest;
use crate::draft::Draft;
use crate::fault::Faults;
use crate::log::RequestLog;
use crate::published::Published;
use crate::sync::{read, write};

use super::turn::Turn;

const SIGNATURE_LIFETIME_MS: u64 = 5 * 60 * 1000;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) origins: Origins,
    pub(crate) faults: Faults,
    pub(crate) log: RequestLog,
    pub(crate) started: Instant,
    /// Of the signatures: the first spec's seed, so that addresses outlive a replacement.
    pub(crate) key: u64,
    /// Tokens handed out.
    pub(crate) tokens: Mutex<HashSet<String>>,
    /// True if only those are accepted.
    pub(crate) fresh_token: AtomicBool,
    /// Milliseconds.
    pub(crate) signature_lifetime: AtomicU64,
    /// Patterns of the planted faults.
    pub(crate) planted: Mutex<Vec<String>>,
    pub(crate) turn: Turn,
    published: RwLock<Arc<Published>>,
}

/// Scheme, host and port, without a slash at the end.
#[derive(Debug)]
pub(crate) struct Origins {
    pub(crate) api: String,
    pub(crate) registry: String,
    pub(crate) cdn: String,
    pub(crate) files: String,
}

impl Shared {
    pub(crate) fn new(spec: Spec, origins: Origins) -> Self {
        let key = spec.seed;
        let published = Published::new(Draft::new(spec, None), &origins.files, None);
        Self {
            origins,
            faults: Faults::default(),
            log: RequestLog::default(),
            started: Instant::now(),
            key,
            tokens: Mutex::default(),
            fresh_token: AtomicBool::new(false),
            signature_lifetime: AtomicU64::new(SIGNATURE_LIFETIME_MS),
            planted: Mutex::default(),
            turn: Turn::default(),
            published: RwLock::new(Arc::new(published)),
        }
    }

    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&read(&self.published))
    }

    /// Publishes a spec at once.
    pub(crate) fn replace(&self, spec: Spec) {
        // Made before anything is held up, so that requests go on meanwhile.
        let draft = Draft::new(spec, Some(&self.published()));
        self.turn.take(draft, |draft| self.publish(draft));
    }

    /// Publishes a spec after so many answers to requests that match.
    pub(crate) fn replace_after(&self, pattern: &str, count: usize, spec: Spec) {
        if count == 0 {
            return self.replace(spec);
        }
        self.turn.wait(pattern, count, Draft::new(spec, Some(&self.published())));
    }

    /// Counts an answer that is about to be sent.
    pub(crate) fn answered(&self, target: &str) {
        self.turn.answered(target, |draft| self.publish(draft));
    }

    /// To be called in turn.
    fn publish(&self, draft: Draft) {
        let next = Published::new(draft, &self.origins.files, Some(self.published()));
        *write(&self.published) = Arc::new(next);
    }
}

/// A digest from exactly 64 lower-case hexadecimal digits.
pub(crate) fn digest(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    text.bytes().all(|byte| !byte.is_ascii_uppercase()).then_some(digest)
}
