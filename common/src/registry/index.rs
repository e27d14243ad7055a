//! The image index: what ghcr.io has under one tag of a formula.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::bottle::Digest;

/// The OCI distribution limit that ghcr.io keeps to, in bytes.
pub const LARGEST_INDEX: usize = 4 << 20;

/// The media type that brew asks for.
pub const MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// An image index, verbatim, and what matters of it.
#[derive(Debug, Clone)]
pub struct ImageIndex {
    bytes: Bytes,
    /// Sizes in bytes by digest; `None` where the annotation is absent.
    entries: BTreeMap<Digest, Option<u64>>,
}

impl ImageIndex {
    /// Reads an index; the error says what is wrong with it.
    ///
    /// Entries without a usable digest annotation are not brew's bottles, and
    /// are passed over.
    pub fn parse(bytes: Bytes) -> Result<Self, String> {
        let raw: RawIndex<'_> = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let mut entries = BTreeMap::new();
        for manifest in raw.manifests {
            let Some(annotations) = manifest.annotations else { continue };
            let Some(digest) = annotations.digest.and_then(|text| text.parse().ok()) else { continue };
            let size = annotations.size.and_then(|text| text.parse().ok()).filter(|size| *size > 0);
            entries.insert(digest, size);
        }
        Ok(Self { bytes, entries })
    }

    /// The index as upstream serves it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether it names a bottle.
    pub fn names(&self, digest: &Digest) -> bool {
        self.entries.contains_key(digest)
    }

    /// The size of a bottle in bytes, from `sh.brew.bottle.size`, if it says so.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        *self.entries.get(digest)?
    }

    /// What it says besides digests and sizes; nothing where that has another shape.
    pub fn described(&self) -> Described {
        let text = |annotations: &Value, name: &str| Some(annotations.get(name)?.as_str()?.to_owned());
        let Ok(raw) = serde_json::from_slice::<RawDescribed>(&self.bytes) else {
            return Described::default();
        };
        let entries = raw.manifests.iter().filter_map(|manifest| {
            let digest = text(&manifest.annotations, DIGEST)?.parse().ok()?;
            let ref_name = text(&manifest.annotations, REF_NAME);
            Some(IndexEntry { digest, size: self.size(&digest), ref_name })
        });
        Described { title: text(&raw.annotations, TITLE), entries: entries.collect() }
    }

    /// Every bottle that it names.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.entries.keys()
    }
}

/// What an index says of itself and of each of its bottles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// The formula, as `homebrew/core/wget`: `org.opencontainers.image.title`.
    pub title: Option<String>,
    /// One entry a bottle tag, in the index's order.
    pub entries: Vec<IndexEntry>,
}

/// One bottle of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, if the index says so.
    pub size: Option<u64>,
    /// `version[_revision].<tag>[.<rebuild>]`: `org.opencontainers.image.ref.name`.
    pub ref_name: Option<String>,
}

#[derive(Deserialize)]
struct RawIndex<'a> {
    #[serde(borrow)]
    manifests: Vec<RawManifest<'a>>,
}

#[derive(Deserialize)]
struct RawManifest<'a> {
    #[serde(borrow, default)]
    annotations: Option<RawAnnotations<'a>>,
}

#[derive(Deserialize)]
struct RawAnnotations<'a> {
    #[serde(borrow, rename = "sh.brew.bottle.digest", default)]
    digest: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "sh.brew.bottle.size", default)]
    size: Option<Cow<'a, str>>,
}

const DIGEST: &str = "sh.brew.bottle.digest";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const TITLE: &str = "org.opencontainers.image.title";

#[derive(Deserialize)]
struct RawDescribed {
    manifests: Vec<RawAnnotated>,
    #[serde(default)]
    annotations: Value,
}

#[derive(Deserialize)]
struct RawAnnotated {
    #[serde(default)]
    annotations: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ImageIndex, String> {
        ImageIndex::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn sizes_come_from_annotations_and_may_be_absent() {
        let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
        let index = parse(&format!(
            r#"{{"schemaVersion":2,"manifests":[
                {{"annotations":{{"sh.brew.bottle.digest":"{a}","sh.brew.bottle.size":"42","sh.brew.tab":"{{}}"}}}},
                {{"annotations":{{"sh.brew.bottle.digest":"{b}"}}}},
                {{"annotations":{{"sh.brew.bottle.digest":"{c}","sh.brew.bottle.size":"many"}}}},
                {{"annotations":{{"sh.brew.bottle.digest":"short"}}}}, {{"annotations":null}}, {{}}]}}"#
        ))
        .unwrap();
        assert_eq!((index.size(&a), index.size(&b), index.size(&c)), (Some(42), None, None));
        assert!(index.names(&b) && !index.names(&Digest::of(b"d")));
        assert_eq!(index.digests().count(), 3);
    }

    #[test]
    fn an_index_says_whose_it_is_and_under_which_tags_its_bottles_are() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let index = parse(&format!(
            r#"{{"annotations":{{"org.opencontainers.image.title":"homebrew/core/wget","x":1}},"manifests":[
                {{"annotations":{{"sh.brew.bottle.digest":"{a}","org.opencontainers.image.ref.name":"1.0.all"}}}},
                {{"annotations":{{"sh.brew.bottle.digest":"{a}","org.opencontainers.image.ref.name":7}}}},
                {{"annotations":{{"sh.brew.bottle.digest":"{b}","sh.brew.bottle.size":"9"}}}}, {{}}]}}"#
        ));
        let described = index.map(|index| index.described()).unwrap();
        assert_eq!(described.title.as_deref(), Some("homebrew/core/wget"));
        let entry =
            |digest, size, name: Option<&str>| IndexEntry { digest, size, ref_name: name.map(str::to_owned) };
        let expected = [entry(a, None, Some("1.0.all")), entry(a, None, None), entry(b, Some(9), None)];
        assert_eq!(described.entries, expected);
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for text in ["", "<html>", "[]", "{}", r#"{"manifests":{}}"#, r#"{"manifests":[1]}"#] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }
}
