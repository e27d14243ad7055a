//! What clients and caches between are told of an object.

use crate::bottle::{KeyKind, ObjectKey};
use crate::registry::MEDIA_TYPE;

/// Headers that an object is stored, and served, with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Cache-Control`.
    pub cache_control: &'static str,
}

impl Headers {
    /// Those of an object, by its key.
    pub fn of(key: &ObjectKey) -> Self {
        let headers = |content_type, cache_control| Self { content_type, cache_control };
        match key.kind() {
            // Clients never see it, and a stale one would be a lie to ourselves.
            KeyKind::Internal if key.as_str() == crate::manifest::KEY => {
                headers("application/zstd", "no-store")
            }
            KeyKind::Internal => headers("application/json", "no-store"),
            // Its name is its digest: it never changes. The registry's own type.
            KeyKind::Bottle(_) => {
                headers("application/vnd.oci.image.layer.v1.tar+gzip", "public, max-age=31536000, immutable")
            }
            // A tag's index is replaced when upstream builds a bottle anew.
            KeyKind::Index => headers(MEDIA_TYPE, "public, no-cache"),
            KeyKind::FlatBottle => headers("application/gzip", "public, no-cache"),
            KeyKind::Api => headers("application/json", "public, no-cache"),
            KeyKind::Foreign => headers("application/octet-stream", "no-store"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bottle::Digest;

    #[test]
    fn each_kind_of_key_has_its_headers() {
        let image = "v2/homebrew/core/wget".parse().unwrap();
        let bottle = Headers::of(&ObjectKey::blob(&image, &Digest::of(b"x")));
        assert!(bottle.cache_control.contains("immutable"));
        let index = Headers::of(&ObjectKey::index(&image, &"1.0".parse().unwrap()));
        assert_eq!(index.content_type, "application/vnd.oci.image.index.v1+json");
        assert!(index.cache_control.contains("no-cache"));
        let manifest = Headers::of(&crate::manifest::KEY.parse().unwrap());
        assert_eq!((manifest.content_type, manifest.cache_control), ("application/zstd", "no-store"));
        assert_eq!(Headers::of(&"api/formula.jws.json".parse().unwrap()).content_type, "application/json");
    }
}
