//! Portable Ruby: what brew itself runs on, and fetches before anything else on a
//! machine that has no Ruby of its own.

use std::collections::{BTreeMap, BTreeSet};

use crate::bottle::{BottleTag, Digest};
use crate::catalogue::{Catalogue, PORTABLE_RUBY};

use super::Selection;
use super::closure::Wanted;

impl Selection {
    /// The pinned bottles of portable Ruby.
    pub fn pins(&self) -> impl Iterator<Item = (&BottleTag, &Digest)> {
        self.text.portable_ruby_pins.iter()
    }

    /// Adds the bottle of each tag that the selection names: the one that the
    /// catalogue lists, and the pinned one.
    pub(super) fn add_portable_ruby(
        &self,
        catalogue: &Catalogue,
        clients: &[BottleTag],
        wanted: &mut Wanted,
        unmatched: &mut Vec<String>,
    ) {
        let tags = &self.text.portable_ruby;
        let takers = |tag: &BottleTag| {
            let takers = clients.iter().filter(|client| client.choose(tags) == Some(tag));
            takers.cloned().collect::<Vec<_>>()
        };
        let formulae = catalogue.formulae().iter().enumerate();
        let mut found = BTreeSet::new();
        // By a digest, the first that has it: the listed one comes before the pinned one.
        let mut first: BTreeMap<Digest, usize> = BTreeMap::new();
        for (position, formula) in formulae.filter(|(_, one)| one.name.as_str() == PORTABLE_RUBY) {
            for digest in wanted.get(&position).into_iter().flat_map(BTreeMap::keys) {
                first.entry(*digest).or_insert(position);
            }
            for (tag, digest) in formula.bottles.iter().filter(|(tag, _)| tags.contains(tag)) {
                // All have one image: the same digest twice would be one key, fetched twice.
                let position = *first.entry(*digest).or_insert(position);
                wanted.entry(position).or_default().entry(*digest).or_default().extend(takers(tag));
                found.insert(tag);
            }
        }
        let missing = tags.iter().filter(|tag| !found.contains(tag));
        unmatched
            .extend(missing.map(|tag| format!("portable_ruby {tag}: name its digest in portable_ruby_pins")));
    }
}
