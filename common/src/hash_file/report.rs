//! What an import came to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::run::{Count, RunId};

/// What an import came to, or would come to.
#[derive(Debug, Clone, Serialize)]
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
    /// Bottles that are nowhere, and marked as held because the operator said so.
    pub trusted: Count,
    /// Entries that were not taken, and why; a bottle of two images may be here for one
    /// of them.
    pub skipped: Vec<Skipped>,
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
