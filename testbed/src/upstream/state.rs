//! What the three servers know in common.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use crate::catalogue::Spec;
use crate::content::Digest;
use crate::fault::Faults;
use crate::log::RequestLog;
use crate::published::Published;
use crate::sync::{read, write};

use super::ExpectedBottle;

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
    published: RwLock<Arc<Published>>,
}

/// Scheme, host and port, without a slash at the end.
#[derive(Debug)]
pub(crate) struct Origins {
    pub(crate) api: String,
    pub(crate) registry: String,
    pub(crate) cdn: String,
}

impl Shared {
    pub(crate) fn new(spec: Spec, origins: Origins) -> Self {
        Self {
            origins,
            faults: Faults::default(),
            log: RequestLog::default(),
            started: Instant::now(),
            key: spec.seed,
            tokens: Mutex::default(),
            fresh_token: AtomicBool::new(false),
            signature_lifetime: AtomicU64::new(SIGNATURE_LIFETIME_MS),
            planted: Mutex::default(),
            published: RwLock::new(Arc::new(Published::new(spec, None))),
        }
    }

    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&read(&self.published))
    }

    pub(crate) fn replace(&self, spec: Spec) {
        // Made before the lock is taken, so that requests go on meanwhile.
        let next = Arc::new(Published::new(spec, Some(self.published())));
        *write(&self.published) = next;
    }

    pub(crate) fn expected(&self) -> Vec<ExpectedBottle> {
        let published = self.published();
        let mut expected = Vec::new();
        for bottled in published.formulae() {
            let (image, image_tag) = (bottled.spec.image(), bottled.spec.image_tag());
            for (bottle, digest) in bottled.bottles() {
                let digest = hex::encode(digest);
                expected.push(ExpectedBottle {
                    formula: bottled.spec.name.clone(),
                    tag: bottle.tag.clone(),
                    key: format!("v2/homebrew/core/{image}/blobs/sha256:{digest}"),
                    image: image.clone(),
                    image_tag: image_tag.clone(),
                    digest,
                    size: bottle.size,
                });
            }
        }
        expected
    }
}

/// A digest from exactly 64 lower-case hexadecimal digits.
pub(crate) fn digest(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    text.bytes().all(|byte| !byte.is_ascii_uppercase()).then_some(digest)
}
