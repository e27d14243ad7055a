//! What clients and caches between are told of an object.

use crate::bottle::ObjectKey;
use crate::registry::MEDIA_TYPE;

/// Headers that an object is stored, and served, with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) content_type: &'static str,
    pub(super) cache_control: &'static str,
}

impl Headers {
    pub(super) fn of(key: &ObjectKey) -> Self {
        let headers = |content_type, cache_control| Self { content_type, cache_control };
        if key.is_internal() {
            // Clients never see it, and a stale one would be a lie to ourselves.
            let content_type =
                if key.as_str() == crate::manifest::KEY { "application/zstd" } else { "application/json" };
            headers(content_type, "no-store")
        } else if key.blob_digest().is_some() {
            // Its name is its digest: it never changes. The registry's own type.
            headers("application/vnd.oci.image.layer.v1.tar+gzip", "public, max-age=31536000, immutable")
        } else if key.as_str().starts_with("v2/") {
            // A tag's index is replaced when upstream builds a bottle anew.
            headers(MEDIA_TYPE, "public, no-cache")
        } else {
            headers("application/json", "public, no-cache")
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
