//! The host that the registry redirects to: signed addresses, ranges, no questions
//! about who asks.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::header;
use sha2::{Digest as _, Sha256};

use super::answer::Answer;
use super::body::Source;
use super::server::Call;
use super::state::{Shared, digest};
use crate::content::Digest;

const BLOBS: &str = "/ghcr1/blobs/sha256:";

pub(crate) fn answer(shared: &Shared, call: &Call) -> Answer {
    if call.headers.contains_key(header::AUTHORIZATION) {
        shared.log.violation(format!("Authorization was sent to {}", call.target));
        return Answer::failure(400, None);
    }
    let published = shared.published();
    let (Some(expiry), Some(signature)) = (call.parameter("se"), call.parameter("sig")) else {
        return Answer::failure(403, None);
    };
    if signature != sign(shared.key, &call.path, expiry) || expired(expiry) {
        return Answer::failure(403, None);
    }
    let digest = call.path.strip_prefix(BLOBS).and_then(digest);
    let Some((generator, content)) = digest.and_then(|digest| published.blob(&digest)) else {
        return Answer::failure(404, None);
    };
    let range = call.header(header::RANGE);
    let fault = call.body_fault(&shared.faults, range.is_some(), false);
    Answer::object(Source::Bottle(generator, content), "application/octet-stream")
        .with_range(range)
        .with_fault(fault)
}

/// The address of a blob, good from now on for the lifetime of signatures.
pub(crate) fn location(shared: &Shared, digest: &Digest) -> String {
    let path = format!("{BLOBS}{}", hex::encode(digest));
    let lifetime = shared.signature_lifetime.load(Ordering::Relaxed);
    let until = now().saturating_add(lifetime);
    // Seconds since 1970, with milliseconds so that short lifetimes can be tested.
    let expiry = format!("{}.{:03}", until / 1000, until % 1000);
    let signature = sign(shared.key, &path, &expiry);
    format!("{}{path}?se={expiry}&sig={signature}", shared.origins.cdn)
}

/// A keyed digest. Whoever reads this can make one: it catches addresses that were
/// altered or made up by mistake.
fn sign(key: u64, path: &str, expiry: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(key.to_le_bytes());
    hash.update(path);
    hash.update("?");
    hash.update(expiry);
    hex::encode(hash.finalize())
}

fn expired(expiry: &str) -> bool {
    let milliseconds = expiry.replace('.', "").parse::<u64>();
    milliseconds.map_or(true, |until| until <= now())
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
