//! A spec with its digests worked out, ready to be published.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::catalogue::{BottleSpec, FormulaSpec, Spec};
use crate::content::{Content, Digest, Generator};
use crate::published::Published;

#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) spec: Spec,
    pub(crate) generator: Arc<Generator>,
    pub(crate) known: HashMap<Content, Digest>,
}

impl Draft {
    /// Works out every digest that `like` doesn't know: seconds of work if the bottles
    /// come to gigabytes.
    pub(crate) fn new(spec: Spec, like: Option<&Published>) -> Self {
        let alike = like.filter(|like| like.generator.seed() == spec.seed);
        let generator =
            alike.map_or_else(|| Arc::new(Generator::new(spec.seed)), |one| Arc::clone(&one.generator));
        let mut known = alike.map(|like| like.known.clone()).unwrap_or_default();
        let others = spec.taps.iter().flat_map(|tap| &tap.formulae);
        learn(&generator, spec.formulae.iter().chain(others), &mut known);
        Self { spec, generator, known }
    }
}

/// What decides the bytes of a bottle.
pub(crate) fn content(bottle: &BottleSpec) -> Content {
    Content { size: bottle.size, id: bottle.content }
}

/// Adds the digests that are not known yet.
fn learn<'a>(
    generator: &Generator,
    formulae: impl Iterator<Item = &'a FormulaSpec>,
    known: &mut HashMap<Content, Digest>,
) {
    let bottles = formulae.flat_map(|formula| &formula.bottles);
    let new: HashSet<Content> = bottles.map(content).filter(|content| !known.contains_key(content)).collect();
    let mut new: Vec<Content> = new.into_iter().collect();
    // Largest first: the cores then finish at about the same time.
    new.sort_unstable_by(|a, b| b.cmp(a));
    let digests = generator.digests(&new);
    known.extend(new.into_iter().zip(digests));
}
