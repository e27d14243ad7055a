//! What things are called: digests, bottle tags, names, image paths and keys.
//!
//! The types here can't hold a malformed value: whoever has a [`Digest`], an
//! [`ImageTag`] or an [`ObjectKey`] need not check it again. The naming rules
//! are Homebrew's (`Library/Homebrew/github_packages.rb`, `utils/bottles.rb`).

mod digest;
mod image;
mod key;
mod name;
mod ref_name;
mod tag;

pub use digest::{Collector, Digest, DigestMismatch, Hasher, Verified, VerifiedBytes};
pub use image::{ImagePath, ImageTag, Origin, RootUrl};
pub use key::{KeyKind, ObjectKey};
pub use name::FormulaName;
pub(crate) use ref_name::RefName;
pub use tag::{Arch, BottleTag, MacRelease};

/// A name that its type refuses, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {what}: {why}")]
pub struct InvalidName {
    /// The kind of name, in words: "digest", "image tag".
    pub what: &'static str,
    /// The refused text, cut to 200 characters.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, value: &str, why: &'static str) -> Self {
        Self { what, value: value.chars().take(200).collect(), why }
    }
}

/// Serde by way of `Display` and `FromStr`, for the types of this module.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
