//! The registry's bearer tokens.
//!
//! Homebrew's images are public. The fixed anonymous token that brew itself
//! sends is tried first; where it is refused, the `WWW-Authenticate` challenge
//! says where to ask for another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use url::Url;

/// brew's own anonymous token (`Library/Homebrew/github_packages.rb`).
const ANONYMOUS: &str = "QQ==";

/// Tokens by scope, kept until one is refused. Never printed.
#[derive(Default)]
pub(super) struct Tokens {
    by_image: Mutex<HashMap<String, String>>,
}

impl Tokens {
    /// The token to send for a path of the registry.
    pub(super) fn for_path(&self, path: &str) -> String {
        self.lock().get(image_of(path)).cloned().unwrap_or_else(|| ANONYMOUS.to_owned())
    }

    /// Keeps a fresh token.
    pub(super) fn keep(&self, path: &str, token: String) {
        let mut tokens = self.lock();
        // Thousands of images are asked for once each; their tokens expire anyway.
        if tokens.len() >= 1024 {
            tokens.clear();
        }
        tokens.insert(image_of(path).to_owned(), token);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.by_image.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `WWW-Authenticate: Bearer` challenge: where to ask for a token.
///
/// `None` if the header holds no bearer challenge with an absolute realm.
pub(super) fn challenge(header: &str) -> Option<Url> {
    let (scheme, mut rest) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut realm = None;
    let mut query = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, remaining) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        rest = remaining;
        match name.as_str() {
            "realm" => realm = Some(Url::parse(value).ok()?),
            "service" | "scope" => query.push((name, value.to_owned())),
            _ => {}
        }
    }
    let mut url = realm?;
    url.query_pairs_mut().extend_pairs(query);
    Some(url)
}

/// The repository in `/v2/homebrew/core/wget/blobs/sha256:…`.
fn image_of(path: &str) -> &str {
    let end = path.rfind("/blobs/").or_else(|| path.rfind("/manifests/")).unwrap_or(path.len());
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_where_to_ask() {
        let header = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:homebrew/core/wget:pull""#;
        assert_eq!(
            challenge(header).unwrap().as_str(),
            "https://ghcr.io/token?service=ghcr.io&scope=repository%3Ahomebrew%2Fcore%2Fwget%3Apull"
        );
        assert_eq!(challenge("bearer realm=https://h/t, error=x").unwrap().as_str(), "https://h/t?");
        for header in [
            "",
            "Basic realm=\"x\"",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"/token\"",
            "Bearer realm=\"unclosed",
        ] {
            assert!(challenge(header).is_none(), "{header:?} was taken");
        }
    }

    #[test]
    fn a_token_is_kept_for_its_image_alone() {
        let tokens = Tokens::default();
        tokens.keep("/v2/homebrew/core/wget/blobs/sha256:00", "t".to_owned());
        assert_eq!(tokens.for_path("/v2/homebrew/core/wget/manifests/1.0"), "t");
        assert_eq!(tokens.for_path("/v2/homebrew/core/curl/manifests/1.0"), ANONYMOUS);
    }
}
