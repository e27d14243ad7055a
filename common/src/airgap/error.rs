//! What goes wrong, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::bottle::{Digest, ObjectKey};
use crate::manifest::ManifestError;
use crate::publication::SetError;
use crate::run::RunId;
use crate::settle::SettleError;
use crate::store::StoreError;

use super::bundle::{FORMAT, Unreadable};
use super::{Interval, MirrorId};

/// An export that could not be made. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is nothing to export.
    #[error("there is no mirror: it has no manifest")]
    NoMirror,
    /// It should begin with a run that nobody remembers.
    #[error(
        "no run {0} is on record, and it is no date (2026-11-01) or time (2026-11-01T06:00:00Z) either; \
         `bottles status` names the last run"
    )]
    UnknownRun(RunId),
    /// It should begin in the future.
    #[error("{0} is yet to come: nothing is newer")]
    Future(Timestamp),
    /// It can't be written there.
    #[error("{}: {why}", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// A file can't be written.
    #[error("{} can't be written: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// What the mirror holds is not what it should be.
    #[error(
        "{key} is damaged in the mirror: {why}; `bottles verify --deep --repair` has it fetched again, \
         and then the export can be made"
    )]
    Damaged {
        /// The object.
        key: ObjectKey,
        /// What is wrong with it.
        why: String,
    },
    /// The mirror's name for itself can't be read.
    #[error("{key} can't be read: {why}; remove it, and the next export makes another name for the mirror")]
    Identity {
        /// Where it is.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A set of API files that is published is gone.
    #[error(
        "the published API files of the run {0} are gone; the next plan that finds a change stages others"
    )]
    SetGone(RunId),
    /// A document can't be made.
    #[error("a document of the bundle can't be made: {0}")]
    Document(String),
    /// A task of this process failed.
    #[error("a read panicked: {0}")]
    Panicked(String),
    /// The manifest can't be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A set can't be read.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ExportError {
    /// Whether something was asked for that can't be, and nothing was begun.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoMirror | Self::UnknownRun(_) | Self::Future(_) | Self::Target { .. })
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io { path: path.to_owned(), cause: error.to_string() }
    }
}

/// A bundle that could not be applied. Nothing of it is published; bottles that were
/// verified stay, and are found by the next import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It can't be read.
    #[error("{} can't be read: {cause}", path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
    /// It is something else.
    #[error("{} is no bundle: {why}", path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is none in a folder.
    #[error("{} holds no bundle: their names are bottles-….tar.zst", .0.display())]
    NoBundle(PathBuf),
    /// One volume was named.
    #[error("{} is one volume of several: name the folder that holds them all", .0.display())]
    OneOfMany(PathBuf),
    /// A volume is missing.
    #[error("the volume {} is missing: put it with the others, and import again", .0.display())]
    MissingVolume(PathBuf),
    /// A volume belongs to another bundle, or stands in the place of another one.
    #[error("the volume {} is not of the same bundle as those before it, or not in its place", .0.display())]
    WrongVolume(PathBuf),
    /// It was written by a newer version of this system.
    #[error("{} has format {format}, and this version reads format {FORMAT}: use a newer version", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// The mirror is kept up to date by other means.
    #[error(
        "the mirror has a manifest, but no record of imports: it is kept by `bottles sync`, and a mirror is \
         fed by one of both; import into another place"
    )]
    Synced,
    /// The mirror's manifest is gone.
    #[error(
        "bundles were imported here up to {have}, and the manifest is gone: \
         `bottles verify --to PLACE --rebuild-manifest` makes it anew from what the mirror holds, and then \
         `bottles import --again` brings what is missing"
    )]
    NoManifest {
        /// Up to where the mirror was.
        have: Timestamp,
    },
    /// The mirror is fed by another one.
    #[error(
        "the bundle comes from the mirror {theirs}, and so far all came from {ours}; import it into another place"
    )]
    OtherMirror {
        /// Where the bundle comes from.
        theirs: MirrorId,
        /// Where all bundles before came from.
        ours: MirrorId,
    },
    /// It does not begin with the beginning, and nothing was imported yet.
    #[error(
        "nothing was imported here yet, and the bundle begins after {since}: \
         first comes one from the beginning, `bottles export --since start`"
    )]
    NotFromStart {
        /// Where the bundle begins.
        since: Timestamp,
    },
    /// What is between it and the bundle before is missing.
    #[error(
        "the mirror has what was new until {have}, and the bundle begins after {since}: what came in between \
         is missing; bring it with `bottles export --since {have}`"
    )]
    Gap {
        /// Up to where the mirror is.
        have: Timestamp,
        /// Where the bundle begins.
        since: Timestamp,
    },
    /// It ends too early.
    #[error("the bundle {} is cut short after {after}: bring it again, whole", path.display())]
    CutShort {
        /// The volume.
        path: PathBuf,
        /// The last entry that came.
        after: String,
    },
    /// It can't be unpacked.
    #[error("the bundle {} is damaged after {after}: {why}; bring it again", path.display())]
    Damaged {
        /// The volume.
        path: PathBuf,
        /// The last entry that came.
        after: String,
        /// What is wrong.
        why: String,
    },
    /// An entry holds other bytes than it should.
    #[error("{entry} in {} hashes to {actual}: it was not taken; bring the bundle again", path.display())]
    WrongDigest {
        /// The volume.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// What its bytes hash to.
        actual: Digest,
    },
    /// An entry is not what it should be.
    #[error("{entry} in {} is malformed: {why}", path.display())]
    Malformed {
        /// The volume.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// The record of imports can't be read.
    #[error("{key} can't be read: {why}; put an earlier version of it back")]
    State {
        /// Where it is.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A task of this process failed.
    #[error("a write panicked: {0}")]
    Panicked(String),
    /// The manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A set can't be used.
    #[error(transparent)]
    Set(#[from] SetError),
    /// What was imported can't be settled.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// Whether the bundle is not one for this mirror, or is none, so that nothing was
    /// begun.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoHeader { .. }
                | Self::NoBundle(_)
                | Self::OneOfMany(_)
                | Self::Synced
                | Self::NoManifest { .. }
                | Self::OtherMirror { .. }
                | Self::NotFromStart { .. }
                | Self::Gap { .. }
        )
    }

    pub(super) fn unreadable(path: &Path, entry: &str, error: Unreadable) -> Self {
        match error {
            Unreadable::UnknownFormat(format) => Self::UnknownFormat { path: path.to_owned(), format },
            Unreadable::Malformed(why) => {
                Self::Malformed { path: path.to_owned(), entry: entry.to_owned(), why }
            }
        }
    }
}

impl Interval {
    /// What keeps a bundle from following on what a mirror has, up to `have`.
    pub(super) fn check_follows(&self, have: Option<Timestamp>) -> Result<(), ImportError> {
        match (self.since, have) {
            (Some(since), Some(have)) if since > have => Err(ImportError::Gap { have, since }),
            (Some(since), None) => Err(ImportError::NotFromStart { since }),
            _ => Ok(()),
        }
    }
}
