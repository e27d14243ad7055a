//! What presence and sizes tell of a bottle, before anything is read.

use jiff::Timestamp;

use crate::manifest::{Manifest, State};

use super::contents::Contents;
use super::fate::{Fate, Judged, There, Wanted};
use super::identify::{Bottle, Target};
use super::report::Why;
use super::trust::Trust;

/// What a bottle is judged by.
pub(super) struct Judge<'a> {
    pub(super) contents: &'a Contents,
    /// When the listing of the contents began.
    pub(super) listed_at: Timestamp,
    pub(super) manifest: &'a Manifest,
    pub(super) trust: &'a Trust,
}

/// A bottle's copies by what is left to do.
#[derive(Default)]
pub(super) struct Judgement {
    /// Those whose fate is known.
    pub(super) judged: Vec<Judged>,
    /// Those that are nowhere, and for which the file's word is taken.
    pub(super) trusted: Vec<Target>,
    /// Those for which an object has to be read or copied.
    pub(super) rest: Rest,
}

/// Copies of a bottle for which an object has to be read or copied.
#[derive(Default)]
pub(super) struct Rest {
    /// The copy that the manifest has as held, unread.
    pub(super) source: Option<Target>,
    pub(super) has_candidates: bool,
    pub(super) wanted: Vec<Wanted>,
}

impl Judge<'_> {
    pub(super) fn judge(&self, bottle: &Bottle) -> Judgement {
        let has_candidates = bottle.candidates().next().is_some();
        let blob = |target: &Target| self.contents.blob(&bottle.key_of(target));
        let is_sound = |target: &Target| {
            // Its size is known better than by the file.
            blob(target).is_some_and(|size| self.recorded(bottle, target) == Some(size))
        };
        let is_there = |target: &Target| blob(target) == Some(bottle.size);
        let may_be_copied = bottle.targets.iter().any(|target| is_sound(target) || is_there(target));
        let mut judgement = Judgement::default();
        judgement.rest.has_candidates = has_candidates;
        let mut sound = Vec::new();
        for target in &bottle.targets {
            if is_sound(target) {
                sound.push(target.clone());
                continue;
            }
            let there = match blob(target) {
                None => There::Nothing,
                // Nobody vouches for what the manifest doesn't know, or knows to be damaged.
                Some(size) if size == bottle.size => There::OfItsSize,
                Some(size) => {
                    let detail = wrong_size(bottle.key_of(target).as_str(), size, bottle.size);
                    There::Other { detail, at: self.listed_at }
                }
            };
            if there == There::OfItsSize || has_candidates || may_be_copied {
                judgement.rest.wanted.push(Wanted { target: target.clone(), there });
            } else {
                self.give_up(bottle, target, there, &mut judgement);
            }
        }
        let mut sound = sound.into_iter();
        if !judgement.rest.wanted.is_empty() {
            judgement.rest.source = sound.next();
        }
        judgement.judged.extend(sound.map(|target| Judged { target, fate: Fate::Recorded, lost_at: None }));
        judgement
    }

    /// The size that the manifest has it as held with.
    fn recorded(&self, bottle: &Bottle, target: &Target) -> Option<u64> {
        let record = self.manifest.bottle(&target.image, &bottle.digest)?;
        (record.state == State::Held).then_some(record.size)
    }

    /// A copy that nothing in the place can be made into.
    fn give_up(&self, bottle: &Bottle, target: &Target, there: There, judgement: &mut Judgement) {
        let is_recorded = self.recorded(bottle, target).is_some();
        let judged = match (there, bottle.dated.first()) {
            (There::Other { detail, at }, _) => {
                let fate = Fate::Skipped(Why::Damaged, detail);
                Judged { lost_at: Some(at), ..Judged::new(target, fate) }
            }
            (_, Some(dated)) => {
                let detail = wrong_size(dated.key.as_str(), dated.size, bottle.size);
                Judged::new(target, Fate::Skipped(Why::Damaged, detail))
            }
            (_, None) if !self.trust.matches(&target.formula) => Judged::new(target, absent(is_recorded)),
            (_, None) if is_recorded => Judged::new(target, Fate::Trusted { again: true }),
            (_, None) => {
                judgement.trusted.push(target.clone());
                return;
            }
        };
        judgement.judged.push(judged);
    }
}

impl Rest {
    /// What would become of them if the objects are what they seem to be.
    pub(super) fn foreseen(self) -> Vec<Judged> {
        let Self { source, has_candidates, mut wanted } = self;
        wanted.sort_by_key(|wanted| wanted.there != There::OfItsSize);
        let mut has_source = source.is_some();
        let mut judged: Vec<_> = source.iter().map(|target| Judged::new(target, Fate::Recorded)).collect();
        for Wanted { target, there } in wanted {
            let fate = match (there, has_source || !has_candidates) {
                (There::OfItsSize, _) => Fate::Held,
                (_, true) => Fate::Copied,
                (_, false) => Fate::Adopted,
            };
            has_source = true;
            judged.push(Judged::new(&target, fate));
        }
        judged
    }
}

fn wrong_size(key: &str, actual: u64, expected: u64) -> String {
    format!("{key} has {actual} bytes in place of {expected}")
}

fn absent(is_recorded: bool) -> Fate {
    let detail = if is_recorded {
        "the manifest has it as held, and it is nowhere: `bottles verify` mends that"
    } else {
        "it is neither under its key nor in a dated folder"
    };
    Fate::Skipped(Why::Absent, detail.to_owned())
}
