//! What becomes of one image's copy of a bottle.

use jiff::Timestamp;

use super::identify::Target;
use super::report::Why;

/// What became of one image's copy of a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The manifest has it as held, and it is there.
    Recorded,
    /// It was under its key, and was verified there.
    Held,
    /// It was verified in a dated folder, and copied.
    Adopted,
    /// It was copied from another image's key.
    Copied,
    /// It is nowhere, and the operator's word is taken.
    Trusted {
        /// Whether the manifest has it as held already, by an earlier word.
        again: bool,
    },
    /// It is not in the mirror.
    Skipped(Why, String),
}

/// One image's copy of a bottle, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) target: Target,
    pub(super) fate: Fate,
    /// Since when something is known to be under its key that is not the bottle: the
    /// time before the look, so that whoever mends it meanwhile is not gainsaid.
    pub(super) lost_at: Option<Timestamp>,
}

/// One image's copy that is to be.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) target: Target,
    pub(super) there: There,
}

/// What is under a bottle's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing.
    Nothing,
    /// Something of its size: it may be the bottle.
    OfItsSize,
    /// Something else.
    Other {
        /// What is wrong with it.
        detail: String,
        /// When the look began that found it.
        at: Timestamp,
    },
}

impl Fate {
    /// Whether the mirror holds the copy, or is to say so.
    pub(super) fn is_taken(&self) -> bool {
        !matches!(self, Self::Skipped(..))
    }
}

impl Judged {
    /// A copy under whose key is the bottle, or nothing.
    pub(super) fn new(target: &Target, fate: Fate) -> Self {
        Self { target: target.clone(), fate, lost_at: None }
    }
}
