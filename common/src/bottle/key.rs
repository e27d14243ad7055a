//! Keys of the mirror's objects.

use std::fmt;
use std::str::FromStr;

use super::{Digest, ImagePath, ImageTag, InvalidName, serde_as_text};

/// The key of an object in the mirror: a relative path that can't leave it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Box<str>);

impl ObjectKey {
    /// The key of a bottle.
    pub fn blob(image: &ImagePath, digest: &Digest) -> Self {
        Self(format!("{image}/blobs/sha256:{digest}").into())
    }

    /// The key of an image index.
    pub fn index(image: &ImagePath, tag: &ImageTag) -> Self {
        Self(format!("{image}/manifests/{tag}").into())
    }

    /// A key of the system's own, never served to clients.
    pub fn sync(path: &str) -> Result<Self, InvalidName> {
        format!("_sync/{path}").parse()
    }

    /// This key below the system's own `folder`: where it waits to be put in place.
    pub fn staged_in(&self, folder: &str) -> Result<Self, InvalidName> {
        Self::sync(&format!("{folder}/{self}"))
    }

    /// The key as text, with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest that a bottle's key promises; `None` for all other keys.
    pub fn blob_digest(&self) -> Option<Digest> {
        if !self.0.starts_with("v2/") {
            return None;
        }
        self.0.rsplit_once("/blobs/sha256:")?.1.parse().ok()
    }

    /// Whether the object is the system's own.
    pub fn is_internal(&self) -> bool {
        self.0.starts_with("_sync/")
    }
}

impl FromStr for ObjectKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| Err(InvalidName::new("key", text, why));
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
        if text.is_empty() || text.len() > 1024 {
            return refuse("it takes 1 to 1024 bytes");
        }
        if text.split('/').any(|segment| segment.is_empty() || segment == "." || segment == "..") {
            return refuse("it has an empty, . or .. part");
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return refuse("it holds a control character or a backslash");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(ObjectKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bottles_key_says_its_digest_and_image() {
        let digest = Digest::of(b"x");
        let image: ImagePath = "v2/homebrew/core/openssl/3".parse().unwrap();
        let key = ObjectKey::blob(&image, &digest);
        assert_eq!(key.as_str(), format!("v2/homebrew/core/openssl/3/blobs/sha256:{digest}"));
        assert_eq!(key.blob_digest(), Some(digest));
        let index = ObjectKey::index(&image, &"3.6.0".parse().unwrap());
        assert_eq!(index.blob_digest(), None);
        assert_eq!(index.staged_in("runs/r").unwrap().blob_digest(), None);
    }

    #[test]
    fn a_key_that_leaves_the_mirror_is_refused() {
        for key in [
            "",
            "/etc/passwd",
            "a//b",
            "a/../b",
            "..",
            "./a",
            "a/",
            "a\\b",
            "a\nb",
            "a\0b",
            &"k".repeat(1025),
        ] {
            assert!(key.parse::<ObjectKey>().is_err(), "{key:?} was taken");
        }
    }
}
