//! What is wanted, less what the mirror accounts for.

use jiff::Timestamp;

use crate::bottle::{Digest, ImageTag};
use crate::catalogue::Catalogue;
use crate::manifest::{Image, Manifest, State};
use crate::selection::{Selected, SelectedBottle};

use super::{PlanReport, SkippedFormula};

/// What is left to do for one formula.
#[derive(Debug)]
pub(super) struct Work {
    /// The formula's position in the catalogue.
    pub(super) position: usize,
    /// The bottles that the mirror doesn't account for; empty if only the image
    /// index is to be read.
    pub(super) bottles: Vec<SelectedBottle>,
    /// Bottles that are accounted for, and that the image index as it was last read
    /// does not name.
    pub(super) unnamed: Vec<Digest>,
}

/// The work that is left, and a report that counts what isn't.
pub(super) fn diff(
    catalogue: &Catalogue,
    selected: Selected,
    manifest: &Manifest,
    now: Timestamp,
) -> (Vec<Work>, PlanReport) {
    let mut report = PlanReport {
        formulae: catalogue.formulae().len(),
        bottles: catalogue.bottle_count(),
        added: selected.added,
        missing: selected.missing,
        unmatched: selected.unmatched,
        skipped: catalogue
            .skipped()
            .iter()
            .map(|skipped| SkippedFormula { name: skipped.name.clone(), why: skipped.why.clone() })
            .collect(),
        ..PlanReport::new()
    };
    let mut work = Vec::new();
    for formula in selected.formulae {
        let known = &catalogue.formulae()[formula.position];
        let image = manifest.images.get(&known.image);
        let index = image.and_then(|image| image.indexes.get(&known.image_tag));
        let is_unnamed = |digest: &Digest| {
            known.has_index() && index.is_none_or(|index| index.names(digest) != Some(true))
        };
        let (mut bottles, mut unnamed) = (Vec::new(), Vec::new());
        for bottle in formula.bottles {
            report.selected += 1;
            let record = image.and_then(|image| image.bottles.get(&bottle.digest));
            let state = record.filter(|record| record.is_accounted_for(now)).map(|record| &record.state);
            // One that was given up on may well be gone from upstream's index.
            if matches!(state, Some(State::Held | State::Queued)) && is_unnamed(&bottle.digest) {
                unnamed.push(bottle.digest);
            }
            match state {
                Some(State::Held) => report.held += 1,
                Some(State::Queued) => report.queued += 1,
                Some(State::Dead(_)) => report.dead += 1,
                None => bottles.push(bottle),
            }
        }
        let has_index = !known.has_index() || image.is_some_and(|image| has_index(image, &known.image_tag));
        if !bottles.is_empty() || !unnamed.is_empty() || !has_index {
            work.push(Work { position: formula.position, bottles, unnamed });
        }
    }
    (work, report)
}

/// Whether the image index is in place, or waits for what will come. One that
/// waits for a bottle that nobody fetches any more is read again.
fn has_index(image: &Image, tag: &ImageTag) -> bool {
    image.indexes.get(tag).is_some_and(|index| {
        index.staged.is_none() || index.awaits.iter().all(|digest| image.bottles.contains_key(digest))
    })
}
