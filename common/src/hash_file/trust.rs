//! What is marked as held on the operator's word.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use globset::GlobSet;

use crate::bottle::{Digest, FormulaName, ObjectKey};
use crate::mirror::LARGEST_BOTTLE;
use crate::registry::{self, ImageIndex, Upstream};
use crate::selection::{self, SelectionError};

use super::identify::{Bottle, Target};

/// Formulae whose bottles are marked as held though they are nowhere.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    globs: GlobSet,
    patterns: Vec<String>,
}

impl Trust {
    /// Formulae by name or glob.
    pub fn new(patterns: Vec<String>) -> Result<Self, SelectionError> {
        Ok(Self { globs: selection::globs(&patterns)?, patterns })
    }

    pub(super) fn matches(&self, formula: &FormulaName) -> bool {
        selection::matches(&self.globs, formula)
    }

    /// The patterns that match none of these.
    pub(super) fn unmatched<'a>(&self, formulae: impl Iterator<Item = &'a FormulaName>) -> Vec<String> {
        let mut is_matched = vec![false; self.patterns.len()];
        for formula in formulae {
            let (full, short) = (self.globs.matches(formula.as_str()), self.globs.matches(formula.short()));
            for position in full.into_iter().chain(short) {
                is_matched[position] = true;
            }
        }
        let patterns = self.patterns.iter().zip(is_matched);
        patterns.filter(|(_, is_matched)| !is_matched).map(|(pattern, _)| pattern.clone()).collect()
    }
}

/// A bottle that is nowhere, and for which the file's word is taken.
pub(super) struct Trusted {
    pub(super) bottle: Bottle,
    pub(super) targets: Vec<Target>,
}

/// A bottle's size by upstream; `None` if upstream need not be asked.
pub(super) type WithSize = (Trusted, Option<Result<u64, String>>);

/// Asks upstream for the sizes of those that the catalogue lists: a wrong one would
/// have its bottle refused by all that look at it later. Nobody knows those of others.
///
/// An image index is asked for once, and tells all sizes of its bottles.
pub(super) async fn sizes(upstream: &Upstream, trusted: Vec<Trusted>, concurrency: usize) -> Vec<WithSize> {
    let (listed, mut sized): (Vec<_>, Vec<_>) = trusted.into_iter().partition(|one| one.bottle.is_listed);
    let mut sized: Vec<WithSize> = sized.drain(..).map(|one| (one, None)).collect();
    let mut by_index: BTreeMap<ObjectKey, Vec<Trusted>> = BTreeMap::new();
    for one in listed {
        // Wherever it is, it is the same.
        let target = &one.targets[0];
        by_index.entry(ObjectKey::index(&target.image, &target.image_tag)).or_default().push(one);
    }
    let asked = stream::iter(by_index.into_values()).map(|alike| sizes_of(upstream, alike));
    let asked: Vec<_> = asked.buffered(concurrency.max(1)).collect().await;
    sized.extend(asked.into_iter().flatten());
    sized
}

/// The sizes of bottles of one index.
async fn sizes_of(upstream: &Upstream, alike: Vec<Trusted>) -> Vec<WithSize> {
    let target = &alike[0].targets[0];
    let index = match &target.file {
        Some(_) => None,
        None => Some(upstream.index(&target.origin, &target.image, &target.image_tag).await),
    };
    let mut sized = Vec::with_capacity(alike.len());
    for one in alike {
        let size = size(upstream, &one.targets[0], &one.bottle.digest, index.as_ref()).await;
        let size = match size {
            Ok(size) if (1..=LARGEST_BOTTLE).contains(&size) => Ok(size),
            Ok(size) => Err(format!("upstream says that it has {size} bytes, which no bottle has")),
            Err(error) => Err(format!("its size can't be had: {error}")),
        };
        sized.push((one, Some(size)));
    }
    sized
}

async fn size(
    upstream: &Upstream,
    target: &Target,
    digest: &Digest,
    index: Option<&Result<ImageIndex, registry::Error>>,
) -> Result<u64, String> {
    let known = match index {
        Some(Ok(index)) => index.size(digest),
        Some(Err(error)) => return Err(error.to_string()),
        None => None,
    };
    if let Some(size) = known {
        return Ok(size);
    }
    let url = match &target.file {
        Some(url) => Ok(url.clone()),
        None => registry::parse(&target.image.blob_url(&target.origin, digest)),
    };
    match url {
        Ok(url) => upstream.size(&url).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
