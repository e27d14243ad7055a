//! The signed files of the API. To a mirror they are opaque, and go through byte for
//! byte; their payload says as much as a client needs to install a formula.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::content::Digest;
use crate::platform::candidates;
use crate::published::Published;
use crate::tap::Bottled;

/// The tags that have a file even where no bottle names them.
const TAGS: [&str; 6] =
    ["arm64_tahoe", "arm64_sequoia", "arm64_sonoma", "sonoma", "x86_64_linux", "arm64_linux"];

const PACKAGES: (&str, &str) = ("/api/internal/packages.", ".jws.json");

/// The paths of the files.
pub(crate) fn paths(published: &Published) -> Vec<String> {
    let own = published.core().listed().flat_map(|bottled| &bottled.spec.bottles);
    let mut tags: BTreeSet<&str> = own.map(|bottle| bottle.tag.as_str()).collect();
    tags.extend(TAGS);
    tags.remove("all");
    let packages = tags.into_iter().map(|tag| format!("{}{tag}{}", PACKAGES.0, PACKAGES.1));
    ["formula", "cask", "formula_tap_migrations", "cask_tap_migrations"]
        .iter()
        .map(|name| format!("/api/{name}.jws.json"))
        .chain(packages)
        .collect()
}

/// The bytes of the file at one of the [`paths`].
pub(crate) fn body(published: &Published, path: &str) -> Vec<u8> {
    let tag = path.strip_prefix(PACKAGES.0).and_then(|rest| rest.strip_suffix(PACKAGES.1));
    let payload = match (tag, path) {
        (Some(tag), _) => json!({"formulae": packages(published, tag), "casks": {}}),
        (None, "/api/formula.jws.json") => {
            json!(published.core().listed().map(|bottled| formula(&bottled)).collect::<Vec<_>>())
        }
        (None, "/api/cask.jws.json") => {
            json!([{"token": "a-cask", "version": "1.0", "generation": published.generation()}])
        }
        (None, "/api/formula_tap_migrations.jws.json") => json!({"moved-formula": "homebrew/cask"}),
        (None, _) => json!({"moved-cask": "homebrew/core"}),
    };
    sign(&payload.to_string())
}

/// What one platform installs: of each formula the one bottle, and what it needs.
fn packages(published: &Published, tag: &str) -> Map<String, Value> {
    published
        .core()
        .listed()
        .map(|bottled| {
            let (own, digest) = bottle_for(&bottled, tag).unzip();
            let value = json!({
                "pkg_version": bottled.spec.package_version(),
                "rebuild": bottled.spec.rebuild,
                "tag": own,
                "sha256": digest.map(hex::encode),
                "dependencies": bottled.spec.runtime_dependencies(tag).collect::<Vec<_>>(),
            });
            (bottled.spec.name.clone(), value)
        })
        .collect()
}

/// What every platform installs: the client chooses for its own.
fn formula(bottled: &Bottled<'_>) -> Value {
    let spec = bottled.spec;
    let files: Map<String, Value> =
        bottled.bottles().map(|(bottle, digest)| (bottle.tag.clone(), hex::encode(digest).into())).collect();
    json!({
        "name": spec.name,
        "pkg_version": spec.package_version(),
        "rebuild": spec.rebuild,
        "sha256": files,
        "dependencies": spec.dependencies,
        "uses_from_macos": spec.uses_from_macos,
        "uses_from_macos_bounds": spec.uses_from_macos_bounds,
        "variations": spec.variations,
    })
}

/// The bottle that a client with this tag takes.
fn bottle_for<'a>(bottled: &Bottled<'a>, tag: &str) -> Option<(&'a str, &'a Digest)> {
    candidates(tag).find_map(|tag| {
        let (bottle, digest) = bottled.bottles().find(|(bottle, _)| bottle.tag == tag)?;
        Some((bottle.tag.as_str(), digest))
    })
}

/// A JSON Web Signature in looks; the signature is a plain digest of the payload.
fn sign(payload: &str) -> Vec<u8> {
    let signature = hex::encode(Sha256::digest(payload));
    let signed = json!({
        "payload": payload,
        "signatures": [{
            "protected": "eyJhbGciOiJQUzUxMiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19",
            "header": {"kid": "testbed-1"},
            "signature": signature,
        }],
    });
    signed.to_string().into_bytes()
}
