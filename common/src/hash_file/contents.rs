//! What is in the place, listed once.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::bottle::{BottleTag, ObjectKey};
use crate::store::ObjectMeta;

use super::name::{FlatFile, without_revision};
use super::report::DatedObjects;

/// What is in the place: bottles under their keys, and in dated folders.
#[derive(Default)]
pub(super) struct Contents {
    /// Sizes in bytes.
    blobs: HashMap<ObjectKey, u64>,
    /// By `<name>-<version>` without revision and by tag.
    dated: HashMap<(Box<str>, BottleTag), Vec<Dated>>,
    pub(super) total: DatedObjects,
}

/// A bottle in a dated folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dated {
    pub(super) key: ObjectKey,
    /// Bytes.
    pub(super) size: u64,
}

impl Contents {
    pub(super) fn new(objects: Vec<ObjectMeta>) -> Self {
        let mut contents = Self::default();
        for ObjectMeta { key, size, .. } in objects {
            if key.blob_digest().is_some() {
                contents.blobs.insert(key, size);
            } else {
                contents.take_dated(key, size);
            }
        }
        contents
    }

    /// The size of what is under a bottle's key, in bytes.
    pub(super) fn blob(&self, key: &ObjectKey) -> Option<u64> {
        self.blobs.get(key).copied()
    }

    /// The dated objects that may be the bottle of a tag that goes by
    /// `<name>-<version>`, the newest first. Revision and rebuild may be any: not all
    /// keys tell them, and the hash decides.
    pub(super) fn dated(&self, stem: &str, tag: &BottleTag) -> Vec<Dated> {
        let by = (without_revision(stem).into(), tag.clone());
        let mut found = self.dated.get(&by).cloned().unwrap_or_default();
        found.sort_by_cached_key(|dated| {
            let (date, file) = dated.date_and_file();
            let is_exact = FlatFile::parse(file).is_some_and(|file| file.stem == stem);
            (Reverse(date.to_owned()), !is_exact, Reverse(file.to_owned()))
        });
        found
    }

    fn take_dated(&mut self, key: ObjectKey, size: u64) {
        let dated = Dated { key, size };
        let (date, file) = dated.date_and_file();
        if !is_date(date) {
            return;
        }
        let total = &mut self.total;
        total.objects += 1;
        total.bytes = total.bytes.saturating_add(size);
        if total.first.as_deref().is_none_or(|first| date < first) {
            total.first = Some(date.to_owned());
        }
        if total.last.as_deref().is_none_or(|last| date > last) {
            total.last = Some(date.to_owned());
        }
        // What lies deeper is no bottle of that system.
        if let Some(FlatFile { stem, tag, .. }) = FlatFile::parse(file).filter(|_| !file.contains('/')) {
            self.dated.entry((without_revision(stem).into(), tag)).or_default().push(dated);
        }
    }
}

impl Dated {
    fn date_and_file(&self) -> (&str, &str) {
        self.key.as_str().split_once('/').unwrap_or_default()
    }

    /// What its file's name says.
    pub(super) fn file(&self) -> Option<FlatFile<'_>> {
        FlatFile::parse(self.date_and_file().1)
    }
}

/// `YYYY-MM-DD`
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(position, byte)| match position {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bottle::Digest;
    use crate::hash_file::EntryKey;

    fn contents(objects: &[&str]) -> Contents {
        let meta = |key: &&str| ObjectMeta {
            key: key.parse().unwrap(),
            size: 7,
            modified: jiff::Timestamp::UNIX_EPOCH,
            sha256: None,
        };
        Contents::new(objects.iter().map(meta).collect())
    }

    fn found(contents: &Contents, key: &str) -> Vec<String> {
        let key: EntryKey = key.parse().unwrap();
        contents.dated(key.stem(), key.tag()).into_iter().map(|dated| dated.key.to_string()).collect()
    }

    #[test]
    fn the_newest_comes_first_whatever_its_revision_and_rebuild() {
        let contents = contents(&[
            "2026-01-01/foo-1.0.all.bottle.tar.gz",
            "2026-03-01/foo-1.0_1.all.bottle.tar.gz",
            "2026-03-01/foo-1.0.all.bottle.tar.gz",
            "2026-02-01/foo-1.0.all.bottle.2.tar.gz",
            "2026-04-01/foo-1.0.arm64_tahoe.bottle.tar.gz",
            "2026-04-01/foo-1.0.1.all.bottle.tar.gz",
            "2026-04-01/foo-bar-1.0.all.bottle.tar.gz",
        ]);
        assert_eq!(
            found(&contents, "foo-1.0-all"),
            [
                "2026-03-01/foo-1.0.all.bottle.tar.gz",
                "2026-03-01/foo-1.0_1.all.bottle.tar.gz",
                "2026-02-01/foo-1.0.all.bottle.2.tar.gz",
                "2026-01-01/foo-1.0.all.bottle.tar.gz",
            ]
        );
        assert_eq!(found(&contents, "foo-1.0_1-all")[0], "2026-03-01/foo-1.0_1.all.bottle.tar.gz");
        assert!(found(&contents, "bar-1.0-all").is_empty());
    }

    #[test]
    fn only_what_lies_in_a_dated_folder_is_counted() {
        let digest = Digest::of(b"x");
        let blob = format!("v2/homebrew/core/foo/blobs/sha256:{digest}");
        let contents = contents(&[
            "2026-01-05/foo-1.0.all.bottle.tar.gz",
            "2025-12-31/notes.txt",
            "2026-01-06/deeper/foo-1.0.all.bottle.tar.gz",
            "foo-1.0.all.bottle.tar.gz",
            "2026-1-05/foo-1.0.all.bottle.tar.gz",
            "bottles_hash.json",
            &blob,
        ]);
        let DatedObjects { objects, bytes, first, last } = &contents.total;
        assert_eq!((*objects, *bytes), (3, 21));
        assert_eq!((first.as_deref(), last.as_deref()), (Some("2025-12-31"), Some("2026-01-06")));
        assert_eq!(found(&contents, "foo-1.0-all"), ["2026-01-05/foo-1.0.all.bottle.tar.gz"]);
        assert_eq!(contents.blob(&blob.parse().unwrap()), Some(7));
        assert_eq!(contents.blob(&"bottles_hash.json".parse().unwrap()), None);
    }
}
