//! What a look at a mirror came to.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::bottle::ObjectKey;
use crate::receipt::What;
use crate::run::{Count, RunId};

use super::Known;
use super::finding::{Finding, Kind, Remedy, Subject};
use super::look::Look;

/// What a look at a mirror came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When the look began.
    pub at: Timestamp,
    /// Whether nothing is wrong. What is being repaired is wrong until it is done.
    pub sound: bool,
    /// What the manifest says that is held.
    pub held: Count,
    /// Bottles that are on their way for the first time, or once more after upstream
    /// changed them.
    pub queued: u64,
    /// Bottles that were given up on before they were ever held.
    pub dead: u64,
    /// What was compared.
    pub checked: Checked,
    /// What was hashed, or asked of the store; `None` if that was not asked for.
    pub checksums: Option<Checksums>,
    /// What waits for the next settle.
    pub waiting: Waiting,
    /// Bottles that are there and known to nobody.
    pub extra: Count,
    /// Objects that are none of the mirror's.
    pub foreign: Objects,
    /// One by one; what is wrong first.
    pub findings: Vec<Finding>,
    /// What was done, if that was asked for.
    pub repair: Option<Repaired>,
    /// What the producer was asked before, and has not done yet.
    #[serde(skip)]
    pub(super) asked: Vec<What>,
}

/// How much was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Bottles, by size.
    pub bottles: u64,
    /// Image indexes in place, and their copies, to the byte.
    pub indexes: u64,
    /// Image indexes that wait for their bottles, to the byte.
    pub staged_indexes: u64,
    /// API files of the sets that wait, are read, or were read before, to the byte.
    pub staged_files: u64,
    /// Copies of bottles under flat names, by size.
    pub flat_bottles: u64,
    /// API files, to the byte.
    pub api_files: u64,
    /// Published scopes, whose bottles are needed.
    pub scopes: u64,
}

/// How many bottles were compared to the byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Checksums {
    /// Bottles that were.
    pub checked: Count,
    /// Bottles that could have been: all that are held and have the right size.
    pub of: Count,
    /// Of those that were, the store keeps a checksum of its own.
    pub by_store: Count,
    /// Of those that were, the bytes were read.
    pub read: Count,
    /// Copies under flat names, beside them.
    pub flat_bottles: u64,
}

/// What waits for the next settle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Receipts, each an object.
    pub receipts: u64,
    /// Of these, can't be read.
    pub unreadable: u64,
    /// What the producer was asked to do.
    pub orders: u64,
}

/// A number of objects and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Objects {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was done about the findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The run that its messages name.
    pub run: RunId,
    /// What went to the small queue.
    pub small: Count,
    /// What went to the large queue.
    pub large: Count,
    /// Bottles whose loss was reported: the next plan asks for them, or a bundle brings
    /// them anew.
    pub reported: u64,
    /// What the producer was asked to do: image indexes, API files.
    pub orders: u64,
    /// Bottles that were copied to their flat names.
    pub copies: u64,
    /// Findings about which nothing could be done.
    pub left: u64,
}

impl Report {
    pub(super) fn of(at: Timestamp, known: Known, look: Look, checksums: Option<Checksums>) -> Self {
        let Look { findings, checked, queued, dead, extra, foreign, .. } = look;
        let mut findings = findings.all;
        findings.sort_by(|a, b| {
            (!a.wrong, a.kind, a.subject, &a.key).cmp(&(!b.wrong, b.kind, b.subject, &b.key))
        });
        Self {
            at,
            sound: !findings.iter().any(|finding| finding.wrong),
            held: known.manifest.tally(None).held,
            queued,
            dead,
            checked,
            checksums,
            waiting: known.waiting.counts,
            extra,
            foreign,
            findings,
            repair: None,
            asked: known.waiting.asked,
        }
    }

    /// Whether `--repair` could do something.
    pub fn is_repairable(&self) -> bool {
        let wrong = || self.findings.iter().filter(|finding| finding.wrong);
        let bottles = wrong().filter(|finding| finding.subject == Subject::Bottle);
        let bottles: HashSet<&ObjectKey> = bottles.map(|finding| &finding.key).collect();
        wrong().any(|finding| match &finding.remedy {
            None | Some(Remedy::None(_)) => false,
            // Of a bottle that is wrong itself no copy is made.
            Some(Remedy::Copy { from, .. }) => !bottles.contains(from),
            Some(Remedy::Fetch(_) | Remedy::Order(_)) => true,
        })
    }

    /// Whether something was found that shows only when bottles are compared to the byte.
    pub fn is_found_by_bytes(&self) -> bool {
        self.findings.iter().any(|finding| {
            let is_bottle = matches!(finding.subject, Subject::Bottle | Subject::FlatBottle);
            finding.wrong && is_bottle && matches!(finding.kind, Kind::WrongChecksum | Kind::Unreadable)
        })
    }

    /// How many findings there are of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.findings.iter().filter(|finding| finding.kind == kind).count()
    }
}

impl Repaired {
    pub(super) fn of(run: RunId) -> Self {
        Self {
            run,
            small: Count::default(),
            large: Count::default(),
            reported: 0,
            orders: 0,
            copies: 0,
            left: 0,
        }
    }

    /// Everything that was put on the queues.
    pub fn total(&self) -> Count {
        self.small + self.large
    }
}
