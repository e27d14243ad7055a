//! Keys of the mirror's objects.

use std::fmt;
use std::str::FromStr;

use super::{Digest, ImagePath, ImageTag, InvalidName, serde_as_text};

/// The key of an object in the mirror: a relative path that can't leave it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Box<str>);

/// What an object is, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A bottle under its digest.
    Bottle(Digest),
    /// An image index, or its copy beside the flat names.
    Index,
    /// One of Homebrew's API files.
    Api,
    /// A copy of a bottle under its flat name, at the root or below `taps/`.
    FlatBottle,
    /// The system's own.
    Internal,
    /// None of the mirror's.
    Foreign,
}

/// Where the files of taps are that are published by their flat names.
const TAPS: &str = "taps/";

impl ObjectKey {
    /// The key of a bottle.
    pub fn blob(image: &ImagePath, digest: &Digest) -> Self {
        Self(format!("{image}/blobs/sha256:{digest}").into())
    }

    /// The key of an image index.
    pub fn index(image: &ImagePath, tag: &ImageTag) -> Self {
        Self(format!("{image}/manifests/{tag}").into())
    }

    /// The key of an API file, by its path below `api/`.
    pub fn api(path: &str) -> Result<Self, InvalidName> {
        format!("api/{path}").parse()
    }

    /// The key of a bottle's copy under its flat name: at the root for
    /// homebrew/core, below `taps/` for what came from such a host.
    pub fn flat(file: &str) -> Result<Self, InvalidName> {
        let key: Self = file.parse()?;
        match key.kind() {
            KeyKind::FlatBottle => Ok(key),
            _ => {
                Err(InvalidName::new("flat name", file, "it takes NAME-VERSION.TAG.bottle[.REBUILD].tar.gz"))
            }
        }
    }

    /// The key of an image index's copy beside the flat names; `None` if the image
    /// is not homebrew/core's.
    pub fn flat_index(image: &ImagePath, tag: &ImageTag) -> Option<Self> {
        let name = image.as_str().strip_prefix(CORE)?;
        let key = Self(format!("{name}/manifests/{tag}").into());
        (key.kind() == KeyKind::Index).then_some(key)
    }

    /// The key of the image index that is copied to this key beside the flat names; `None`
    /// if it is no such copy's.
    pub fn indexed(&self) -> Option<Self> {
        let is_copy = self.kind() == KeyKind::Index && !self.0.starts_with("v2/");
        is_copy.then(|| Self(format!("{CORE}{self}").into()))
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

    /// What the object is.
    pub fn kind(&self) -> KeyKind {
        let (top, rest) = self.0.split_once('/').unwrap_or((&self.0, ""));
        let file = self.0.rsplit('/').next().unwrap_or_default();
        let is_bottle = file.ends_with(".tar.gz") && file.contains(".bottle.");
        let is_index = self.0.rsplit('/').nth(1) == Some("manifests") && file.parse::<ImageTag>().is_ok();
        match top {
            "_sync" => KeyKind::Internal,
            "api" if !rest.is_empty() => KeyKind::Api,
            "v2" => match self.blob_digest() {
                Some(digest) => KeyKind::Bottle(digest),
                None if is_index => KeyKind::Index,
                None => KeyKind::Foreign,
            },
            _ if is_bottle && (rest.is_empty() || self.0.starts_with(TAPS)) => KeyKind::FlatBottle,
            _ if is_index && rest.len() > "manifests/".len() => KeyKind::Index,
            _ => KeyKind::Foreign,
        }
    }

    /// Whether clients may read it.
    pub fn is_served(&self) -> bool {
        !matches!(self.kind(), KeyKind::Internal | KeyKind::Foreign)
    }
}

/// What the paths of homebrew/core's images begin with.
const CORE: &str = "v2/homebrew/core/";

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
    fn a_key_says_what_the_object_is() {
        let digest = Digest::of(b"x");
        let kind = |text: &str| text.parse::<ObjectKey>().unwrap().kind();
        assert_eq!(kind(&format!("v2/homebrew/core/wget/blobs/sha256:{digest}")), KeyKind::Bottle(digest));
        for index in
            ["v2/homebrew/core/openssl/3/manifests/3.6.0_1-2", "openssl/3/manifests/3.6.0", "a/manifests/1"]
        {
            assert_eq!(kind(index), KeyKind::Index, "{index}");
        }
        for api in ["api/formula.jws.json", "api/internal/packages.x86_64_linux.jws.json"] {
            assert_eq!(kind(api), KeyKind::Api, "{api}");
        }
        for flat in
            ["foo@1.2-1.0_1.x86_64_linux.bottle.2.tar.gz", "taps/bottles.example.com/b/x-1.all.bottle.tar.gz"]
        {
            assert_eq!(kind(flat), KeyKind::FlatBottle, "{flat}");
        }
        for own in ["_sync/manifest.jsonl.zst", "_sync/a-1.all.bottle.tar.gz", "_sync/x/manifests/1"] {
            assert_eq!(kind(own), KeyKind::Internal, "{own}");
            assert!(!own.parse::<ObjectKey>().unwrap().is_served());
        }
        for foreign in [
            "api",
            "v2/x",
            "manifests/1",
            "deploy/manifests/.secret",
            "v2/homebrew/core/wget/manifests/1 0",
            "notes.txt",
            "x.tar.gz",
            "2024-05-01/wget-1.all.bottle.tar.gz",
            "v2/homebrew/core/wget/blobs/sha256:00",
        ] {
            assert_eq!(kind(foreign), KeyKind::Foreign, "{foreign}");
        }
        let flat = |image: &str| ObjectKey::flat_index(&image.parse().unwrap(), &"3.6.0".parse().unwrap());
        assert_eq!(flat("v2/homebrew/core/openssl/3").unwrap().as_str(), "openssl/3/manifests/3.6.0");
        assert_eq!(flat("v2/brewsci/bio/meme"), None);
        let image: ImagePath = "v2/homebrew/core/openssl/3".parse().unwrap();
        let index = ObjectKey::index(&image, &"3.6.0".parse().unwrap());
        assert_eq!(flat(image.as_str()).unwrap().indexed(), Some(index.clone()));
        assert_eq!(index.indexed(), None);
        assert_eq!("x-1.all.bottle.tar.gz".parse::<ObjectKey>().unwrap().indexed(), None);
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
