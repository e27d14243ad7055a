//! One formula's image index: its bottles' sizes, and a copy for the mirror.

use url::Url;

use crate::bottle::Digest;
use crate::catalogue::{Catalogue, Formula};
use crate::registry::{self, ImageIndex};
use crate::selection::SelectedBottle;

use super::{Planner, Problem, Work};

/// A formula whose index was read.
pub(super) struct Drafted<'a> {
    pub(super) formula: &'a Formula,
    /// `None` if it can't be had.
    pub(super) index: Option<IndexDraft>,
    /// The bottles to queue, with their sizes in bytes.
    pub(super) bottles: Vec<(SelectedBottle, u64)>,
    pub(super) problems: Vec<Problem>,
}

/// An image index to be staged.
pub(super) struct IndexDraft {
    pub(super) index: ImageIndex,
    pub(super) sha256: Digest,
}

/// Reads the image index of a formula that has work left.
pub(super) async fn draft<'a>(planner: &Planner, catalogue: &'a Catalogue, work: Work) -> Drafted<'a> {
    let formula = &catalogue.formulae()[work.position];
    let mut drafted = Drafted { formula, index: None, bottles: Vec::new(), problems: Vec::new() };
    let problem = |why: String| {
        tracing::warn!(formula = %formula.name, why, "can't be planned");
        Problem { formula: formula.name.clone(), why }
    };
    if !formula.has_index() {
        for bottle in work.bottles {
            match size_of(planner, formula, &bottle).await {
                Ok(0) => {
                    drafted.problems.push(problem(format!("upstream says that {} is empty", bottle.digest)));
                }
                Ok(size) => drafted.bottles.push((bottle, size)),
                Err(error) => drafted.problems.push(problem(error.to_string())),
            }
        }
        return drafted;
    }
    let index = match planner.upstream.index(&formula.origin, &formula.image, &formula.image_tag).await {
        Ok(index) => index,
        Err(error) => {
            drafted.problems.push(problem(error.to_string()));
            return drafted;
        }
    };
    if index.digests().next().is_none() {
        let why = format!("the image index {}:{} names no bottle", formula.image, formula.image_tag);
        drafted.problems.push(problem(why));
        return drafted;
    }
    // Catalogue and registry are published one after the other; in between the index
    // may lack a bottle, and the next plan finds it.
    let lacks = |digest: &Digest| {
        (!index.names(digest)).then(|| {
            problem(format!(
                "the image index {}:{} does not name {digest}, which the catalogue does",
                formula.image, formula.image_tag
            ))
        })
    };
    drafted.problems.extend(work.unnamed.iter().filter_map(&lacks));
    for bottle in work.bottles {
        if let Some(problem) = lacks(&bottle.digest) {
            drafted.problems.push(problem);
            continue;
        }
        match size(planner, formula, &index, &bottle.digest).await {
            Ok(0) => drafted.problems.push(problem(format!("upstream says that {} is empty", bottle.digest))),
            Ok(size) => drafted.bottles.push((bottle, size)),
            Err(error) => drafted.problems.push(problem(error.to_string())),
        }
    }
    drafted.index = Some(IndexDraft { sha256: Digest::of(index.bytes()), index });
    drafted
}

/// The file of a bottle that is no blob of a registry.
pub(super) fn file_of(formula: &Formula, bottle: &SelectedBottle) -> Option<Url> {
    formula.files.as_ref()?;
    Url::parse(&formula.url(bottle.tags.first()?, &bottle.digest)).ok()
}

/// The size of a bottle that no index names.
async fn size_of(
    planner: &Planner,
    formula: &Formula,
    bottle: &SelectedBottle,
) -> Result<u64, registry::Error> {
    let url = bottle.tags.first().map(|tag| formula.url(tag, &bottle.digest)).unwrap_or_default();
    planner.upstream.size(&registry::parse(&url)?).await
}

async fn size(
    planner: &Planner,
    formula: &Formula,
    index: &ImageIndex,
    digest: &Digest,
) -> Result<u64, registry::Error> {
    match index.size(digest) {
        Some(size) => Ok(size),
        None => {
            planner.upstream.size(&registry::parse(&formula.image.blob_url(&formula.origin, digest))?).await
        }
    }
}
