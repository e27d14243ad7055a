//! What an import came to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::run::{Count, RunId};

use super::name::EntryKey;

/// What an import came to, or would come to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ImportReport {
    /// What the receipts name as the run; `None` in a dry run.
    pub run: Option<RunId>,
    /// When the file was last written, in its own words.
    pub last_updated: Option<String>,
    /// How many entries it has, bad ones too.
    pub entries: u64,
    /// Bottles that the manifest has as held already.
    pub recorded: Count,
    /// Bottles that were found under their own keys, and verified there; in a dry run
    /// those that are there with the right size.
    pub held: Count,
    /// Bottles that were verified in a dated folder and copied to their keys; in a dry
    /// run those that are there with the right size.
    pub adopted: Count,
    /// Bottles that were copied from another image's key; in a dry run those that
    /// could be.
    pub copied: Count,
    /// Bottles that are nowhere, and marked as held because the operator said so, now or
    /// earlier.
    pub trusted: Count,
    /// Bottles that the catalogue doesn't list any more, of those above; or of the whole
    /// file, where they are left out.
    pub unlisted: Count,
    /// Bottles in whose places something else was found. They are reported as missing,
    /// so that the next plan replaces what is there; their entries are among those that
    /// were skipped.
    pub lost: Count,
    /// Entries that were not taken, and why; a bottle of two images may be here for one
    /// of them.
    pub skipped: Vec<Skipped>,
    /// Entries that are trusted with another size than the file says.
    pub resized: Vec<Resized>,
    /// What was to be trusted, and matches no formula of the file.
    pub unmatched_trust: Vec<String>,
    /// What lies in the dated folders: all of it stays.
    pub dated: DatedObjects,
}

/// What lies in dated folders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DatedObjects {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The earliest folder, `YYYY-MM-DD`.
    pub first: Option<String>,
    /// The latest.
    pub last: Option<String>,
}

/// An entry that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Skipped {
    /// Its key, cut to 200 characters, and without those that a terminal obeys.
    pub key: String,
    /// Of what kind the reason is.
    pub why: Why,
    /// The reason.
    pub detail: String,
}

/// An entry whose size is another one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resized {
    /// Its key.
    pub key: String,
    /// Bytes, as the file says.
    pub in_file: u64,
    /// Bytes, as upstream says: this is what was taken.
    pub upstream: u64,
}

/// Why an entry was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The entry can't be read.
    Malformed,
    /// The catalogue knows neither its digest nor its formula.
    UnknownFormula,
    /// The catalogue doesn't know its digest, and its version makes no image tag.
    UnknownVersion,
    /// The catalogue doesn't know its digest, and nobody knows its bottle tag.
    UnknownTag,
    /// It is to be trusted, and upstream doesn't tell its size.
    UnknownSize,
    /// The bottle is nowhere in the place.
    Absent,
    /// What is there is not the bottle.
    Damaged,
    /// It was changed or removed meanwhile.
    Changed,
    /// The store copies nothing of this size.
    TooLarge,
    /// The store refuses to have it read.
    Unreadable,
}

impl Skipped {
    /// An entry, and why it was not taken.
    pub(super) fn new(key: &str, why: Why, detail: impl Into<String>) -> Self {
        Self { key: harmless(key), why, detail: detail.into() }
    }
}

impl Resized {
    pub(super) fn new(key: &EntryKey, in_file: u64, upstream: u64) -> Self {
        Self { key: harmless(key.as_str()), in_file, upstream }
    }
}

/// A stranger's text, cut to 200 characters, and without those that a terminal obeys.
pub(super) fn harmless(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

impl Why {
    /// As the report has it: `unknown-formula`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownFormula => "unknown-formula",
            Self::UnknownVersion => "unknown-version",
            Self::UnknownTag => "unknown-tag",
            Self::UnknownSize => "unknown-size",
            Self::Absent => "absent",
            Self::Damaged => "damaged",
            Self::Changed => "changed",
            Self::TooLarge => "too-large",
            Self::Unreadable => "unreadable",
        }
    }
}

impl ImportReport {
    /// How many entries were skipped for each kind of reason.
    pub fn reasons(&self) -> BTreeMap<Why, u64> {
        let mut reasons = BTreeMap::new();
        for skipped in &self.skipped {
            *reasons.entry(skipped.why).or_default() += 1;
        }
        reasons
    }
}
