//! What a look at a mirror finds.

use std::collections::HashMap;

use serde::Serialize;

use crate::bottle::{BottleTag, Digest, FormulaName, ImageTag, ObjectKey};
use crate::message::{Lane, Message};
use crate::publication::{ApiPath, Scope};
use crate::receipt::What;

/// Something that is not as it should be, or that is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is the matter.
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// The object.
    pub key: ObjectKey,
    /// Whether clients suffer from it; otherwise it is only worth knowing.
    pub wrong: bool,
    /// The formula.
    pub formula: Option<FormulaName>,
    /// The tag of the image index.
    pub image_tag: Option<ImageTag>,
    /// The bottle tags.
    pub tags: Vec<BottleTag>,
    /// Who was told of it by the API files that they read.
    pub scopes: Vec<Scope>,
    /// What should be there.
    pub expected: Option<Content>,
    /// What is there; `None` if nothing is.
    pub found: Option<Content>,
    /// In words, where size and checksum don't say it.
    pub detail: Option<String>,
    /// What follows from it.
    pub follows: &'static str,
    /// What was done about it, if that was asked for.
    pub repair: Option<Repair>,
    /// What can be done about it.
    #[serde(skip)]
    pub(super) remedy: Option<Remedy>,
}

/// What is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It should be there, and is not.
    Missing,
    /// It has another size than it should.
    WrongSize,
    /// It has other bytes than it should.
    WrongChecksum,
    /// It can't be read, or not be understood.
    Unreadable,
    /// An image index doesn't name a bottle that is held under its tag.
    LacksBottle,
    /// An API file that clients read names it, and the mirror does not hold it.
    NotHeld,
    /// It was missing or damaged, and its repair was given up on.
    GivenUp,
    /// An image index that waits for its bottles, or an API file of a set, is gone from
    /// where it waits.
    StagedGone,
    /// The same has other bytes than it should.
    StagedDamaged,
    /// An API file that names bottles is in place, and nobody knows what it needs.
    OfNoSet,
    /// It is missing or damaged, and its repair is on its way.
    Queued,
    /// Upstream dropped it, and its days of grace are over.
    Expired,
    /// A settle is writing it, or was killed at it, and the manifest doesn't know yet.
    Unfinished,
    /// It is there, and neither the manifest nor what is published knows it.
    Extra,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The manifest.
    Manifest,
    /// A bottle under its digest.
    Bottle,
    /// An image index.
    Index,
    /// A bottle's copy under a flat name.
    FlatBottle,
    /// An image index's copy beside the flat names.
    FlatIndex,
    /// One of Homebrew's API files.
    ApiFile,
    /// What says which bottles an API file needs.
    Set,
}

/// What an object holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Its length in bytes, where it is known.
    pub size: Option<u64>,
    /// The sha256 of its bytes, where it is known.
    pub sha256: Option<Digest>,
}

/// What was done about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum Repair {
    /// A message asks for the bottle.
    Queued {
        /// On which queue.
        lane: Lane,
    },
    /// Its loss was reported: the next plan asks for it, or a bundle brings it anew.
    Reported,
    /// The producer was asked to make it good.
    Ordered,
    /// The producer was asked before, and has not done it yet.
    AlreadyOrdered,
    /// It was copied anew from its bottle.
    Copied,
    /// Nothing.
    Nothing {
        /// Why not.
        why: String,
    },
}

/// What can be done about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// To have the bottle fetched.
    Fetch(Box<Message>),
    /// To ask the producer for an image index or an API file.
    Order(What),
    /// To copy the bottle to its flat name.
    Copy { from: ObjectKey, to: ObjectKey },
    /// None.
    None(&'static str),
}

impl Kind {
    /// Whether clients suffer from it.
    pub fn is_wrong(self) -> bool {
        !matches!(self, Self::Expired | Self::Unfinished | Self::Extra)
    }
}

impl Content {
    /// So many bytes, and no word on what they are.
    pub fn of_size(size: u64) -> Self {
        Self { size: Some(size), sha256: None }
    }
}

impl Finding {
    pub(super) fn new(kind: Kind, subject: Subject, key: ObjectKey) -> Self {
        Self {
            kind,
            subject,
            key,
            wrong: kind.is_wrong(),
            formula: None,
            image_tag: None,
            tags: Vec::new(),
            scopes: Vec::new(),
            expected: None,
            found: None,
            detail: None,
            follows: follows(kind, subject),
            repair: None,
            remedy: None,
        }
    }

    /// The same with what should be there and what is.
    pub(super) fn comparing(mut self, expected: Content, found: Option<Content>) -> Self {
        (self.expected, self.found) = (Some(expected), found);
        self
    }

    pub(super) fn saying(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(super) fn remedied_by(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }
}

impl Remedy {
    pub(super) fn republish(path: &ApiPath) -> Self {
        Self::Order(What::Republish { paths: vec![path.to_string()] })
    }
}

/// The findings of one look.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) all: Vec<Finding>,
    /// The wrong ones of each object, by their positions.
    wrong: HashMap<ObjectKey, Vec<usize>>,
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        if finding.wrong {
            self.wrong.entry(finding.key.clone()).or_default().push(self.all.len());
        }
        self.all.push(finding);
    }

    /// Says of what is wrong with an object who was told of it.
    pub(super) fn name_scope(&mut self, key: &ObjectKey, scope: &Scope) {
        for at in self.wrong.get(key).into_iter().flatten() {
            if let Some(finding) = self.all.get_mut(*at) {
                finding.scopes.push(scope.clone());
            }
        }
    }

    /// Says in place of what was only worth knowing what is wrong after all.
    pub(super) fn condemn(&mut self, at: usize, finding: Finding) {
        self.wrong.entry(finding.key.clone()).or_default().push(at);
        if let Some(known) = self.all.get_mut(at) {
            *known = finding;
        }
    }

    /// What nobody knows of a kind of object, by position.
    pub(super) fn extra(&self, subject: Subject) -> impl Iterator<Item = (usize, &Finding)> {
        let is_meant = move |one: &Finding| (one.kind, one.subject) == (Kind::Extra, subject);
        self.all.iter().enumerate().filter(move |(_, finding)| is_meant(finding))
    }

    pub(super) fn is_wrong(&self, key: &ObjectKey) -> bool {
        self.wrong.contains_key(key)
    }
}

fn follows(kind: Kind, subject: Subject) -> &'static str {
    use Kind::{
        Expired, Extra, GivenUp, LacksBottle, NotHeld, OfNoSet, Queued, StagedDamaged, StagedGone,
        Unfinished, Unreadable, WrongChecksum, WrongSize,
    };
    match (kind, subject) {
        (_, Subject::Manifest) => {
            "a plan takes the mirror for empty; `bottles verify --rebuild-manifest` makes it anew"
        }
        (_, Subject::Set) => {
            "what clients were told can't be checked; the next plan that finds a change stages another"
        }
        (Queued, _) => "it is on its way already",
        (GivenUp, _) => "clients can't install it; `bottles dead-letters` says why",
        (LacksBottle, _) => "clients of these platforms find no bottle",
        (NotHeld, _) => "clients read of it, and can't install it",
        (StagedGone | StagedDamaged, Subject::ApiFile) => {
            "it can't be published, or put back, until a plan stages it again"
        }
        (StagedGone | StagedDamaged, _) => "its bottles can't be installed until a plan reads it again",
        (OfNoSet, _) => {
            "nobody knows whether clients can install what it names; the next plan, or bundle, has it \
             published anew"
        }
        (Expired, _) => "nothing: clients were not told of it any more",
        (Unfinished, _) => "nothing: the next settle goes on with it",
        (Extra, Subject::Bottle) => "known to nobody: a later plan adopts it if upstream lists it",
        (Extra, _) => "known to nobody, and left alone",
        (WrongSize | WrongChecksum | Unreadable, Subject::Bottle | Subject::FlatBottle) => {
            "clients fetch it, and refuse it"
        }
        (_, Subject::Bottle | Subject::FlatBottle) => "clients can't install it",
        (_, Subject::Index | Subject::FlatIndex) => "clients can't install the bottles that it names",
        (_, Subject::ApiFile) => "clients refuse it, or ask formulae.brew.sh for it",
    }
}
