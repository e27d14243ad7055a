//! Writes such a file from what the mirror holds.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath, ImageTag};
use crate::manifest::{BottleRecord, Manifest, State};

use super::name::FlatFile;
use super::versions::Versions;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Entries: a bottle of two tags has two.
    pub entries: u64,
    /// Those that were left out, since their bottles are of other taps than
    /// homebrew/core: the file has no words for them, and nobody could read them back.
    pub other_taps: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    last_updated: Date,
    bottles: BTreeMap<String, EntryOut<'a>>,
}

#[derive(Serialize)]
struct EntryOut<'a> {
    sha256: &'a Digest,
    download_date: Date,
    file_size: u64,
}

/// A time as Python writes it: older ones read neither nanoseconds nor a Z.
struct Date(Timestamp);

/// A held bottle under one of its tags.
struct Row<'a> {
    path: &'a ImagePath,
    formula: &'a FormulaName,
    digest: &'a Digest,
    record: &'a BottleRecord,
    tag: &'a BottleTag,
}

/// Writes what the manifest has as held of homebrew/core, ordered by key; the same each
/// time. `now` is the file's time where the manifest doesn't tell its own.
///
/// A key is `<name>-<version>-<tag>`. The version is the image tag without the rebuild
/// where the image index or a flat name tells which of its numbers that is, else the
/// image tag. Of bottles with the same key the one that came last has it; the others
/// have the image tag as their version, or else that with the first digits of their
/// digest behind it, so that none is lost.
pub fn export(
    manifest: &Manifest,
    versions: &Versions,
    now: Timestamp,
    to: &mut dyn Write,
) -> io::Result<Exported> {
    let (mut rows, other_taps) = rows(manifest);
    rows.sort_by_key(|row| (Reverse(row.record.at), row.formula, row.digest, row.tag));
    let newest = rows.first().map(|row| row.record.at);
    let mut bottles = BTreeMap::new();
    for row in &rows {
        let names = row.names(versions);
        if let Some(name) = names.into_iter().find(|name| !bottles.contains_key(name)) {
            let Row { digest, record, .. } = row;
            let entry = EntryOut { sha256: digest, download_date: Date(record.at), file_size: record.size };
            bottles.insert(name, entry);
        }
    }
    let exported = Exported { entries: bottles.len() as u64, other_taps };
    let last_updated = Date(manifest.folded_at.max(newest).unwrap_or(now));
    serde_json::to_writer_pretty(&mut *to, &Document { last_updated, bottles })?;
    to.write_all(b"\n")?;
    to.flush()?;
    Ok(exported)
}

/// What is held of homebrew/core, and how much of other taps.
fn rows(manifest: &Manifest) -> (Vec<Row<'_>>, u64) {
    let (mut rows, mut other_taps) = (Vec::new(), 0);
    for (path, image) in &manifest.images {
        let held = image.bottles.iter().filter(|(_, record)| record.state == State::Held);
        for (digest, record) in held {
            if path.is_core() {
                let row = |tag| Row { path, formula: &image.formula, digest, record, tag };
                rows.extend(record.tags.iter().map(row));
            } else {
                other_taps += record.tags.len() as u64;
            }
        }
    }
    (rows, other_taps)
}

impl Serialize for Date {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00"))
    }
}

impl Row<'_> {
    /// The keys that it may have, the best first; no other bottle has the last one.
    fn names(&self, versions: &Versions) -> [String; 3] {
        let Self { path, formula, digest, record, tag } = self;
        let image_tag = record.image_tag.as_str();
        let by_index = versions.of(path, &record.image_tag, digest);
        let version = by_index.unwrap_or_else(|| pkg_version(formula, &record.image_tag, record));
        let digits: String = digest.to_string().chars().take(12).collect();
        [
            format!("{formula}-{version}-{tag}"),
            format!("{formula}-{image_tag}-{tag}"),
            format!("{formula}-{image_tag}.{digits}-{tag}"),
        ]
    }
}

/// The image tag without its rebuild. Its last number may be the version's own; a flat
/// name tells the two apart.
fn pkg_version<'a>(formula: &FormulaName, image_tag: &'a ImageTag, record: &BottleRecord) -> &'a str {
    let flat = record.flat.iter().filter_map(|key| key.as_str().rsplit('/').next());
    let mut told = flat.filter_map(FlatFile::parse).filter(|file| {
        file.rebuild > 0 && file.image_tag(formula.short()).as_deref() == Some(image_tag.as_str())
    });
    let version = told.next().and_then(|file| image_tag.as_str().strip_suffix(&format!("-{}", file.rebuild)));
    version.unwrap_or(image_tag.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_file::HashFile;
    use crate::message::Message;
    use crate::receipt::{Entry, Outcome};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).unwrap()
    }

    fn manifest(bottles: &[(&str, &str, &str, &str)]) -> Manifest {
        let mut manifest = Manifest::default();
        for (second, (formula, image_tag, tags, bytes)) in bottles.iter().enumerate() {
            let message = Message {
                run: "20260101T000000Z-abcd".parse().unwrap(),
                formula: formula.parse().unwrap(),
                origin: "https://ghcr.io".parse().unwrap(),
                image: format!("v2/homebrew/core/{}", formula.replace('@', "/")).parse().unwrap(),
                image_tag: image_tag.parse().unwrap(),
                tags: tags.split(',').map(|tag| tag.parse().unwrap()).collect(),
                digest: Digest::of(bytes.as_bytes()),
                size: bytes.len() as u64,
                copy_from: None,
                file: None,
                replace: false,
            };
            let second = i64::try_from(second).unwrap();
            manifest.fold(&Entry { message, at: at(second), outcome: Outcome::Held });
        }
        manifest
    }

    fn exported(manifest: &Manifest) -> HashFile {
        let mut bytes = Vec::new();
        let versions = Versions::default();
        let count = export(manifest, &versions, at(99), &mut bytes).unwrap();
        let file = HashFile::parse(&bytes).unwrap();
        assert_eq!((file.entries.len() as u64, file.rejected.len()), (count.entries, 0));
        let mut again = Vec::new();
        export(manifest, &versions, at(1000), &mut again).unwrap();
        assert!(manifest.images.is_empty() || bytes == again, "it is not the same each time");
        file
    }

    fn keys(file: &HashFile) -> Vec<&str> {
        file.entries.keys().map(super::super::EntryKey::as_str).collect()
    }

    #[test]
    fn each_tag_of_a_held_bottle_has_an_entry() {
        let mut manifest = manifest(&[
            ("openssl@3", "3.6.0_1", "arm64_tahoe", "one"),
            ("jq", "1.8", "tahoe,sonoma", "two"),
            ("wget", "1.0", "all", "three"),
        ]);
        let wget = manifest.images.get_mut(&"v2/homebrew/core/wget".parse().unwrap()).unwrap();
        wget.bottles.values_mut().for_each(|record| record.state = State::Queued);
        let file = exported(&manifest);
        assert_eq!(keys(&file), ["jq-1.8-sonoma", "jq-1.8-tahoe", "openssl@3-3.6.0_1-arm64_tahoe"]);
        let openssl = file.entries.values().next_back().unwrap();
        assert_eq!((openssl.sha256, openssl.size), (Digest::of(b"one"), 3));
        assert_eq!(file.last_updated.as_deref(), Some("2026-05-28T20:26:41.000000+00:00"));
        let last_updated = exported(&Manifest::default()).last_updated;
        assert_eq!(last_updated.as_deref(), Some("2026-05-28T20:28:19.000000+00:00"));
    }

    #[test]
    fn times_are_written_as_every_python_reads_them() {
        let at: Timestamp = "2026-11-28T07:07:42.085324581Z".parse().unwrap();
        assert_eq!(serde_json::to_string(&Date(at)).unwrap(), r#""2026-11-28T07:07:42.085324+00:00""#);
    }

    #[test]
    fn bottles_of_other_taps_are_counted_and_left_out() {
        let mut manifest = manifest(&[("jq", "1.8", "tahoe,sonoma", "two")]);
        let core = manifest.images.values().next().unwrap().clone();
        manifest.images.insert("v2/example/tools/tool/2".parse().unwrap(), core.clone());
        manifest.images.insert("v2/_files/bottles.example.com/tool".parse().unwrap(), core);
        assert_eq!(keys(&exported(&manifest)), ["jq-1.8-sonoma", "jq-1.8-tahoe"]);
        let exported = export(&manifest, &Versions::default(), at(0), &mut io::sink()).unwrap();
        assert_eq!((exported.entries, exported.other_taps), (2, 4));
    }

    #[test]
    fn a_rebuild_is_left_out_only_where_a_flat_name_tells_it() {
        let mut manifest = manifest(&[
            ("a", "1.0-2", "all", "x"),
            ("b", "2026-01-02", "all", "y"),
            ("c", "1.0-2", "all", "z"),
        ]);
        for (name, flat) in [
            ("a", "a-1.0.all.bottle.2.tar.gz"),
            ("b", "b-2026-01-02.all.bottle.tar.gz"),
            ("c", "d-1.0.all.bottle.2.tar.gz"),
        ] {
            let image =
                manifest.images.get_mut(&format!("v2/homebrew/core/{name}").parse().unwrap()).unwrap();
            image.bottles.values_mut().for_each(|record| record.flat = vec![flat.parse().unwrap()]);
        }
        assert_eq!(keys(&exported(&manifest)), ["a-1.0-all", "b-2026-01-02-all", "c-1.0-2-all"]);
    }

    #[test]
    fn no_bottle_is_lost_to_another_of_the_same_name() {
        let manifest = manifest(&[
            ("a", "1.0", "all", "first"),
            ("a", "1.0", "all", "second"),
            ("a", "1.0", "all", "third"),
            ("a-1", "0", "all", "other"),
            ("a", "1-0", "all", "hyphen"),
        ]);
        let file = exported(&manifest);
        let suffixed = |bytes: &str| format!("a-1.0.{}-all", &Digest::of(bytes.as_bytes()).to_string()[..12]);
        let of = |key: &str| file.entries.get(&key.parse().unwrap()).map(|entry| entry.sha256);
        assert_eq!(of("a-1.0-all"), Some(Digest::of(b"third")));
        for bytes in ["first", "second"] {
            assert_eq!(of(&suffixed(bytes)), Some(Digest::of(bytes.as_bytes())));
        }
        assert_eq!(of("a-1-0-all"), Some(Digest::of(b"hyphen")));
        assert_eq!(file.entries.len(), 5);
    }
}
