//! What a selection names and a catalogue doesn't have: misspelled, most likely.

use std::collections::BTreeSet;

use crate::bottle::BottleTag;
use crate::catalogue::Catalogue;

use super::Selection;
use super::closure::platforms;

impl Selection {
    /// What the selection names and the catalogue has nothing for.
    pub(super) fn unmatched(&self, catalogue: &Catalogue) -> Vec<String> {
        let mut unmatched = self.unmatched_formulae(catalogue);
        unmatched.extend(self.unmatched_tags(catalogue));
        unmatched
    }

    /// Platforms for which the catalogue has nothing but what every platform takes, and
    /// tags to keep of which nobody has heard. Bottles of one that is known, and of a
    /// formula, may be held though upstream no longer lists them.
    fn unmatched_tags(&self, catalogue: &Catalogue) -> Vec<String> {
        let all = platforms(catalogue);
        let clients = self.text.tags.iter().flatten();
        let clients = clients.filter(|client| !all.is_empty() && client.choose(&all).is_none());
        let is_unknown = |tag: &&BottleTag| matches!(tag, BottleTag::Other(_)) && !all.contains(tag);
        let kept = self.text.keep.tags.iter().filter(is_unknown);
        let clients = clients.map(|tag| format!("tags {tag}"));
        clients.chain(kept.map(|tag| format!("keep.tags {tag}"))).collect()
    }

    fn unmatched_formulae(&self, catalogue: &Catalogue) -> Vec<String> {
        let Some(patterns) = &self.text.formulae else { return Vec::new() };
        let mut unmatched: BTreeSet<usize> = (0..patterns.len()).collect();
        for formula in catalogue.formulae() {
            for name in [formula.name.as_str(), formula.name.short()] {
                for pattern in self.allow.matches(name) {
                    unmatched.remove(&pattern);
                }
            }
        }
        unmatched.into_iter().map(|pattern| patterns[pattern].clone()).collect()
    }
}
