//! The two ways in which a bottle is named: an entry's key, and a flat file.

use std::fmt;
use std::str::FromStr;

use crate::bottle::{BottleTag, InvalidName};

/// The key of an entry: `<name>-<version>-<tag>`.
///
/// Where the name ends and the version begins it doesn't say: both may hold hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey {
    text: Box<str>,
    tag: BottleTag,
}

/// What a flat file's name says: `<name>-<version>.<tag>.bottle[.<rebuild>].tar.gz`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FlatFile<'a> {
    /// `<name>-<version>[_<revision>]`
    pub(super) stem: &'a str,
    pub(super) tag: BottleTag,
    pub(super) rebuild: u32,
}

impl EntryKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bottle tag at its end.
    pub fn tag(&self) -> &BottleTag {
        &self.tag
    }

    /// `<name>-<version>`
    pub(super) fn stem(&self) -> &str {
        self.text.rsplit_once('-').map_or("", |(stem, _)| stem)
    }
}

impl FromStr for EntryKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| InvalidName::new("key", text, why);
        if text.len() > 512 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refuse("it takes up to 512 printable characters, without spaces"));
        }
        let (stem, tag) = text.rsplit_once('-').unwrap_or_default();
        let has_both = stem.split_once('-').is_some_and(|(name, version)| {
            // A hyphen at the end leaves no version.
            !name.is_empty() && !version.is_empty() && !version.ends_with('-')
        });
        match tag.parse() {
            Ok(tag) if has_both => Ok(Self { text: text.into(), tag }),
            _ => Err(refuse("it takes NAME-VERSION-TAG")),
        }
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'a> FlatFile<'a> {
    /// Reads a file's name; `None` if it is no bottle's.
    pub(super) fn parse(file: &'a str) -> Option<Self> {
        let name = file.strip_suffix(".tar.gz")?;
        let (name, rebuild) = if let Some(name) = name.strip_suffix(".bottle") {
            (name, 0)
        } else {
            let (name, rebuild) = name.rsplit_once('.')?;
            (name.strip_suffix(".bottle")?, rebuild.parse().ok()?)
        };
        let (stem, tag) = name.rsplit_once('.')?;
        stem.contains('-').then_some(())?;
        Some(Self { stem, tag: tag.parse().ok()?, rebuild })
    }

    /// The image tag of a bottle of the formula `name`; `None` if it is another's.
    pub(super) fn image_tag(&self, name: &str) -> Option<String> {
        let version = self.stem.strip_prefix(name)?.strip_prefix('-')?;
        Some(match self.rebuild {
            0 => version.to_owned(),
            rebuild => format!("{version}-{rebuild}"),
        })
    }
}

/// `<name>-<version>` without a revision: the keys of entries need not tell it.
pub(super) fn without_revision(stem: &str) -> &str {
    match stem.rsplit_once('_') {
        Some((rest, revision))
            if !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            rest
        }
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_with_its_tag() {
        for (text, stem, tag) in [
            ("openssl@3-3.6.0_1-arm64_tahoe", "openssl@3-3.6.0_1", "arm64_tahoe"),
            ("gtk+3-3.24-x86_64_linux", "gtk+3-3.24", "x86_64_linux"),
            ("ca-certificates-2026-01-01-all", "ca-certificates-2026-01-01", "all"),
        ] {
            let key: EntryKey = text.parse().unwrap();
            assert_eq!((key.stem(), key.tag().to_string().as_str(), key.as_str()), (stem, tag, text));
        }
        for text in [
            "",
            "wget",
            "wget-all",
            "wget-1.0",
            "-1.0-all",
            "wget--all",
            "wget-1.0-",
            "wget-1.0-Bad Tag",
            "wget-1.0-\u{1b}[1m",
            "wget-1-é",
            &format!("{}-1-all", "w".repeat(600)),
        ] {
            assert!(text.parse::<EntryKey>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_flat_name_says_version_tag_and_rebuild() {
        let file = FlatFile::parse("openssl@3-3.6.0_1.arm64_tahoe.bottle.2.tar.gz").unwrap();
        assert_eq!((file.stem, file.tag.to_string().as_str()), ("openssl@3-3.6.0_1", "arm64_tahoe"));
        assert_eq!(file.image_tag("openssl@3").as_deref(), Some("3.6.0_1-2"));
        assert_eq!(file.image_tag("openssl"), None);
        let plain = FlatFile::parse("gtk+3-3.24.43.all.bottle.tar.gz").unwrap();
        assert_eq!(plain.image_tag("gtk+3").as_deref(), Some("3.24.43"));
        for name in [
            "",
            "x.tar.gz",
            "wget-1.0.tar.gz",
            "wget-1.0.all.bottle.x.tar.gz",
            "wget.bottle.tar.gz",
            "wget.all.bottle.tar.gz",
            "wget-1.0.all.bottle.json",
        ] {
            assert_eq!(FlatFile::parse(name), None, "{name:?} was taken");
        }
    }

    #[test]
    fn only_a_number_is_a_revision() {
        assert_eq!(without_revision("foo-1.0_12"), "foo-1.0");
        for stem in ["foo-1.0", "foo_x-1.0", "foo-1.0_", "foo-1.0_rc1"] {
            assert_eq!(without_revision(stem), stem);
        }
    }
}
