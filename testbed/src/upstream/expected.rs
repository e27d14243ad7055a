//! What a mirror should end up with.

use serde::Serialize;

use crate::published::Published;
use crate::tap::Tap;

/// A bottle of homebrew/core as a mirror should end up with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedBottle {
    /// The formula's name, such as `openssl@3`.
    pub formula: String,
    /// The bottle's tag, such as `arm64_tahoe`.
    pub tag: String,
    /// The image below `homebrew/core/`, such as `openssl/3`.
    pub image: String,
    /// The image's tag, such as `3.6.0_1`.
    pub image_tag: String,
    /// `v2/homebrew/core/<image>/blobs/sha256:<hex>`.
    pub key: String,
    /// SHA-256 in hexadecimal, without a prefix.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// A bottle of any tap, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedTapBottle {
    /// The formula's full name, such as `example/tools/name`.
    pub formula: String,
    /// The bottle's tag, such as `arm64_tahoe`.
    pub tag: String,
    /// SHA-256 in hexadecimal, without a prefix.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// The address that the tap's catalogue gives.
    pub url: String,
    /// The name as a flat file, not escaped, such as `name-1.0_1.all.bottle.2.tar.gz`;
    /// also where bottles are in the registry.
    pub file: String,
    /// The image with its way, such as `v2/example/tools/name`; `None` on a plain host.
    pub image: Option<String>,
    /// The image's tag, such as `1.0_1-2`; also where there is no image.
    pub image_tag: String,
}

/// The bottles of the formulae of homebrew/core that are, or are not, unlisted.
pub(crate) fn of_core(published: &Published, unlisted: bool) -> Vec<ExpectedBottle> {
    let mut expected = Vec::new();
    for bottled in published.core().formulae().filter(|one| one.spec.unlisted == unlisted) {
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

/// The bottles that the catalogue of a tap lists; none if there is no such tap.
pub(crate) fn in_tap(published: &Published, tap: &str) -> Vec<ExpectedTapBottle> {
    let mut expected = Vec::new();
    for bottled in published.tap(tap).into_iter().flat_map(Tap::listed) {
        for (bottle, digest) in bottled.bottles() {
            expected.push(ExpectedTapBottle {
                formula: bottled.full_name(),
                tag: bottle.tag.clone(),
                digest: hex::encode(digest),
                size: bottle.size,
                url: bottled.url(&bottle.tag, digest),
                file: bottled.spec.flat_file(&bottle.tag),
                image: bottled.repository().map(|image| format!("v2/{image}")),
                image_tag: bottled.spec.image_tag(),
            });
        }
    }
    expected
}
