//! The registry: tokens, image indexes, and redirects to blobs.

use std::sync::atomic::Ordering;

use axum::http::header;
use serde_json::json;

use super::answer::Answer;
use super::body::Source;
use super::cdn;
use super::server::Call;
use super::state::{Shared, digest};
use crate::fault::Fault;
use crate::index::{MEDIA_TYPE, Omit};
use crate::random::{commit, mix_text};
use crate::sync::lock;

/// Where the images of every tap are.
const IMAGES: &str = "/v2/";

/// The token that is the same for everyone and never expires.
const ANONYMOUS: &str = "QQ==";

pub(crate) fn answer(shared: &Shared, call: &Call) -> Answer {
    if call.path == "/token" {
        return token(shared, call);
    }
    let Some(rest) = call.path.strip_prefix(IMAGES) else {
        return Answer::failure(404, None);
    };
    let (image, image_tag, name) = match (rest.rsplit_once("/manifests/"), rest.rsplit_once("/blobs/")) {
        (Some((image, image_tag)), _) => (image, Some(image_tag), ""),
        (None, Some((image, name))) => (image, None, name),
        (None, None) => return Answer::failure(404, None),
    };
    // Before anything is looked up, so that a stranger learns nothing.
    if !authorized(shared, call) {
        return challenge(shared, image);
    }
    match image_tag {
        Some(image_tag) => manifest(shared, call, image, image_tag),
        None => blob(shared, image, name),
    }
}

/// A token that is good for every image, whatever scope it was asked for.
fn token(shared: &Shared, call: &Call) -> Answer {
    let (Some(service), Some(scope)) = (call.parameter("service"), call.parameter("scope")) else {
        return Answer::failure(400, None);
    };
    let mut tokens = lock(&shared.tokens);
    let number = tokens.len().to_string();
    let token = format!("testbed{}", commit(mix_text(&[service, scope, &number])));
    tokens.insert(token.clone());
    let body = json!({ "token": token }).to_string();
    Answer::object(Source::File(body.into()), "application/json")
}

fn authorized(shared: &Shared, call: &Call) -> bool {
    let value = call.header(header::AUTHORIZATION);
    let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) else {
        return false;
    };
    let anonymous = token == ANONYMOUS && !shared.fresh_token.load(Ordering::Relaxed);
    anonymous || lock(&shared.tokens).contains(token)
}

fn challenge(shared: &Shared, image: &str) -> Answer {
    let realm = format!("{}/token", shared.origins.registry);
    let scope = format!("repository:{image}:pull");
    Answer::failure(401, None).with(
        header::WWW_AUTHENTICATE,
        format!(r#"Bearer realm="{realm}",service="ghcr.io",scope="{scope}""#),
    )
}

fn manifest(shared: &Shared, call: &Call, image: &str, image_tag: &str) -> Answer {
    // To a client that doesn't name the type the registry says that there is nothing.
    if !call.header(header::ACCEPT).is_some_and(|accept| accept.contains(MEDIA_TYPE)) {
        return Answer::failure(404, None);
    }
    let published = shared.published();
    if !published.has_index(image, image_tag) {
        return Answer::failure(404, None);
    }
    let fault = call.body_fault(&shared.faults, false, true);
    let omit = Omit {
        sizes: fault == Some(Fault::MissingSize),
        tag: match &fault {
            Some(Fault::MissingEntry { tag }) => Some(tag.clone()),
            _ => None,
        },
    };
    match published.index(image, image_tag, &omit) {
        Some(body) => Answer::object(Source::File(body.into()), MEDIA_TYPE).with_fault(fault),
        None => Answer::failure(404, None),
    }
}

fn blob(shared: &Shared, image: &str, name: &str) -> Answer {
    match name.strip_prefix("sha256:").and_then(digest) {
        Some(digest) if shared.published().holds(image, &digest) => {
            Answer::redirect(&cdn::location(shared, &digest))
        }
        _ => Answer::failure(404, None),
    }
}
