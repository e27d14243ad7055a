//! Portable Ruby: what brew itself runs on, and fetches before anything else on a
//! machine that has no Ruby of its own.

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
        for tag in &self.text.portable_ruby {
            let takers = clients.iter().filter(|client| client.choose(&self.text.portable_ruby) == Some(tag));
            let mut is_found = false;
            for (position, formula) in catalogue.formulae().iter().enumerate() {
                if formula.name.as_str() != PORTABLE_RUBY {
                    continue;
                }
                if let Some((_, digest)) = formula.bottles.iter().find(|(other, _)| other == tag) {
                    let bottle = wanted.entry(position).or_default().entry(*digest).or_default();
                    bottle.extend(takers.clone().cloned());
                    is_found = true;
                }
            }
            if !is_found {
                unmatched.push(format!("portable_ruby {tag}: name its digest in portable_ruby_pins"));
            }
        }
    }
}
