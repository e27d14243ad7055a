//! What stands in a bundle: its documents, and the names of its entries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath, ImageTag, KeyKind, ObjectKey, Origin};
use crate::dead_letter::Failure;
use crate::publication::Scope;
use crate::run::{Count, RunId};

use super::MirrorId;

/// The version of the format that this code writes, and the only one it reads.
pub(super) const FORMAT: u32 = 1;

/// The first entry of each volume.
pub(super) const HEADER: &str = "bundle.json";

/// What the mirror held.
pub(super) const LISTING: &str = "manifest.jsonl";

/// The last entry of each volume.
pub(super) const END: &str = "end.json";

const SETS: &str = "api/sets/";
const FILES: &str = "api/files/";

/// A stretch of a mirror's life: after `since`, up to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Where it begins; `None` for the mirror's beginning.
    pub since: Option<Timestamp>,
    /// Where it ends.
    pub until: Timestamp,
}

impl Interval {
    /// Whether what was added at `added_at` belongs to it; `None` is from before such
    /// times were recorded. Nothing is known that was added after its end.
    pub(super) fn takes(&self, added_at: Option<Timestamp>) -> bool {
        match (self.since, added_at) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(since), Some(at)) => at > since,
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.since {
            None => write!(f, "from the beginning to {}", self.until),
            Some(since) => write!(f, "from {since} to {}", self.until),
        }
    }
}

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    /// Where it comes from.
    pub(super) mirror: MirrorId,
    #[serde(flatten)]
    pub(super) interval: Interval,
    pub(super) created: Timestamp,
    /// Which of its volumes this is, counted from one.
    pub(super) volume: u32,
}

impl Header {
    /// Whether both are of one bundle.
    pub(super) fn is_of_the_bundle_of(&self, other: &Self) -> bool {
        Self { volume: other.volume, ..self.clone() } == *other
    }
}

/// `end.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) volume: u32,
    /// In the last volume only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) contents: Option<Contents>,
}

/// What all volumes hold together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub(super) volumes: u32,
    pub(super) bottles: Count,
    pub(super) indexes: u64,
    pub(super) api_files: u64,
    /// The sha256 of a line for each entry but `bundle.json` and `end.json`, as
    /// `sha256sum` writes it: `<digest>  <name>`.
    pub(super) entries: Digest,
}

/// The line of [`Contents::entries`] for one entry.
pub(super) fn list_line(name: &str, digest: &Digest) -> String {
    format!("{digest}  {name}\n")
}

/// `manifest.jsonl`: a line with its format and the sets, then one line an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// Sets that were published in the interval, oldest first.
    pub(super) sets: Vec<ListedSet>,
    /// Everything that the mirror held at the interval's end.
    pub(super) images: Vec<ListedImage>,
}

/// A set that is in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedSet {
    pub(super) run: RunId,
    /// When it was staged.
    pub(super) at: Timestamp,
    /// The scopes that read it.
    pub(super) scopes: Vec<Scope>,
    /// Clients to which it was published though the mirror had given up on some of
    /// their bottles.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) despite_dead: BTreeSet<BottleTag>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedImage {
    pub(super) path: ImagePath,
    pub(super) formula: FormulaName,
    pub(super) origin: Origin,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) bottles: BTreeMap<Digest, ListedBottle>,
    /// Its indexes that are in the bundle, with their sha256.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) indexes: BTreeMap<ImageTag, Digest>,
}

/// One bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedBottle {
    pub(super) image_tag: ImageTag,
    pub(super) tags: Vec<BottleTag>,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<Url>,
    /// Since when upstream doesn't list it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dropped_at: Option<Timestamp>,
    /// Whether its bytes are in the bundle; else an earlier one brought them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) carried: bool,
    /// Why the mirror does not hold it, which a set in the bundle needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dead: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
struct ListingHeader {
    format: u32,
    images: usize,
    sets: Vec<ListedSet>,
}

impl Listing {
    /// The listing as bytes.
    pub(super) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let header = ListingHeader { format: FORMAT, images: self.images.len(), sets: self.sets.clone() };
        let mut bytes = serde_json::to_vec(&header)?;
        bytes.push(b'\n');
        for image in &self.images {
            serde_json::to_writer(&mut bytes, image)?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    /// A listing from its bytes; the error says what is wrong with them.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let header: ListingHeader = document(lines.next().unwrap_or_default())?;
        let images: Vec<ListedImage> = lines.map(serde_json::from_slice).collect::<Result<_, _>>()?;
        if images.len() != header.images {
            return Err(Unreadable::Malformed("it holds fewer images than it says".to_owned()));
        }
        Ok(Self { sets: header.sets, images })
    }
}

/// A document that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It says something else than it should.
    Malformed(String),
    /// A newer version of this system wrote it.
    UnknownFormat(u64),
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Reads a document that says its format.
pub(super) fn document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct AnyFormat {
        format: u64,
    }
    // The format first: what follows it may mean something else there.
    let AnyFormat { format } = serde_json::from_slice(bytes)?;
    if format != u64::from(FORMAT) {
        return Err(Unreadable::UnknownFormat(format));
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// What an entry is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    Set(RunId),
    ApiFile(Digest),
    Index(ObjectKey),
    Bottle(ObjectKey, Digest),
    Listing,
    End,
}

impl EntryKind {
    /// What the entry is; `None` if it is nothing that a bundle holds.
    pub(super) fn of(name: &str) -> Option<Self> {
        if name == LISTING {
            return Some(Self::Listing);
        }
        if name == END {
            return Some(Self::End);
        }
        if let Some(run) = name.strip_prefix(SETS) {
            return run.parse().ok().map(Self::Set);
        }
        if let Some(digest) = name.strip_prefix(FILES) {
            return digest.parse().ok().map(Self::ApiFile);
        }
        let key: ObjectKey = name.parse().ok().filter(|_| name.starts_with("v2/"))?;
        match key.kind() {
            KeyKind::Bottle(digest) => Some(Self::Bottle(key, digest)),
            KeyKind::Index => Some(Self::Index(key)),
            _ => None,
        }
    }
}

/// The entry of a set.
pub(super) fn set_name(run: &RunId) -> String {
    format!("{SETS}{run}")
}

/// The entry of an API file.
pub(super) fn file_name(sha256: &Digest) -> String {
    format!("{FILES}{sha256}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_after_the_beginning_belongs() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let interval = |since| Interval { since, until: Timestamp::MAX };
        let (earlier, later) = (at("2026-11-01T00:00:00Z"), at("2026-11-02T00:00:00Z"));
        assert!(interval(None).takes(None) && interval(None).takes(earlier));
        assert!(interval(earlier).takes(later));
        // What was added at its beginning came with the bundle before.
        assert!(!interval(earlier).takes(earlier) && !interval(later).takes(earlier));
        assert!(!interval(earlier).takes(None));
    }

    #[test]
    fn an_entry_is_known_by_its_name() {
        let digest = Digest::of(b"x");
        let blob = format!("v2/homebrew/core/wget/blobs/sha256:{digest}");
        assert_eq!(EntryKind::of(&blob), Some(EntryKind::Bottle(blob.parse().unwrap(), digest)));
        let index = "v2/homebrew/core/wget/manifests/1.0";
        assert_eq!(EntryKind::of(index), Some(EntryKind::Index(index.parse().unwrap())));
        assert_eq!(EntryKind::of(&file_name(&digest)), Some(EntryKind::ApiFile(digest)));
        let run: RunId = "20260101T000000Z-abcd".parse().unwrap();
        assert_eq!(EntryKind::of(&set_name(&run)), Some(EntryKind::Set(run)));
        for other in [
            "_sync/manifest.jsonl.zst",
            "api/formula.jws.json",
            "api/sets/../x",
            "/etc/passwd",
            "v2/../x/manifests/1",
            "wget/manifests/1.0",
            "v2/homebrew/core/wget/blobs/sha256:00",
            "wget-1.0.all.bottle.tar.gz",
            HEADER,
        ] {
            assert_eq!(EntryKind::of(other), None, "{other}");
        }
    }

    #[test]
    fn a_listing_reads_back_as_it_was_written_and_a_cut_one_is_refused() {
        let bottle = ListedBottle {
            image_tag: "1.0".parse().unwrap(),
            tags: vec!["all".parse().unwrap()],
            size: 7,
            file: None,
            dropped_at: Some(Timestamp::UNIX_EPOCH),
            carried: true,
            dead: None,
        };
        let image = |name: &str| ListedImage {
            path: format!("v2/homebrew/core/{name}").parse().unwrap(),
            formula: name.parse().unwrap(),
            origin: "https://ghcr.io".parse().unwrap(),
            bottles: BTreeMap::from([(Digest::of(name.as_bytes()), bottle.clone())]),
            indexes: BTreeMap::from([("1.0".parse().unwrap(), Digest::of(b"index"))]),
        };
        let set = ListedSet {
            run: "20260101T000000Z-abcd".parse().unwrap(),
            at: Timestamp::UNIX_EPOCH,
            scopes: vec![Scope::AllClients],
            despite_dead: BTreeSet::from(["arm64_tahoe".parse().unwrap()]),
        };
        let listing = Listing { sets: vec![set], images: vec![image("wget"), image("curl")] };
        let bytes = listing.encode().unwrap();
        assert_eq!(Listing::decode(&bytes), Ok(listing));
        let end_of_first = bytes.iter().rposition(|byte| *byte == b'\n').unwrap();
        let end_of_second = bytes[..end_of_first].iter().rposition(|byte| *byte == b'\n').unwrap();
        for cut in [0, 10, end_of_second, end_of_first - 1] {
            assert!(Listing::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let newer = String::from_utf8(bytes).unwrap().replacen("\"format\":1", "\"format\":2", 1);
        assert_eq!(Listing::decode(newer.as_bytes()), Err(Unreadable::UnknownFormat(2)));
    }
}
