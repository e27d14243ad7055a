//! The signed files of the API. To a mirror they are opaque, and go through byte for
//! byte; their payload here says enough to tell one publication from another.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::index::MACOS;
use crate::published::{Bottled, Published};

/// The tags that have a file even where no bottle names them.
const TAGS: [&str; 6] =
    ["arm64_tahoe", "arm64_sequoia", "arm64_sonoma", "sonoma", "x86_64_linux", "arm64_linux"];

const PACKAGES: (&str, &str) = ("/api/internal/packages.", ".jws.json");

/// The paths of the files.
pub(crate) fn paths(published: &Published) -> Vec<String> {
    let own = published.formulae().flat_map(|bottled| &bottled.spec.bottles);
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
            json!(published.formulae().map(|bottled| formula(&bottled)).collect::<Vec<_>>())
        }
        (None, "/api/cask.jws.json") => {
            json!([{"token": "a-cask", "version": "1.0", "generation": published.generation()}])
        }
        (None, "/api/formula_tap_migrations.jws.json") => json!({"moved-formula": "homebrew/cask"}),
        (None, _) => json!({"moved-cask": "homebrew/core"}),
    };
    sign(&payload.to_string())
}

fn packages(published: &Published, tag: &str) -> Map<String, Value> {
    published
        .formulae()
        .map(|bottled| {
            let value = json!({
                "pkg_version": bottled.spec.package_version(),
                "rebuild": bottled.spec.rebuild,
                "sha256": digest_for(&bottled, tag),
            });
            (bottled.spec.name.clone(), value)
        })
        .collect()
}

fn formula(bottled: &Bottled<'_>) -> Value {
    let files: Map<String, Value> =
        bottled.bottles().map(|(bottle, digest)| (bottle.tag.clone(), hex::encode(digest).into())).collect();
    json!({
        "name": bottled.spec.name,
        "pkg_version": bottled.spec.package_version(),
        "rebuild": bottled.spec.rebuild,
        "sha256": files,
    })
}

/// The digest of the bottle that a client with this tag takes: its own, else `all`,
/// else that of the newest older macOS of its architecture.
fn digest_for(bottled: &Bottled<'_>, tag: &str) -> Option<String> {
    let of = |tag: &str| {
        let mut all = bottled.bottles();
        all.find(|(bottle, _)| bottle.tag == tag).map(|(_, digest)| hex::encode(digest))
    };
    let (prefix, name) = tag.strip_prefix("arm64_").map_or(("", tag), |name| ("arm64_", name));
    let older = MACOS.iter().skip_while(|(macos, _)| *macos != name).skip(1);
    of(tag)
        .or_else(|| of("all"))
        .or_else(|| older.into_iter().find_map(|(macos, _)| of(&format!("{prefix}{macos}"))))
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
