//! What a set of API files needs: the selected bottles, and who takes them.

use std::collections::HashSet;

use crate::bottle::{BottleTag, Digest, ImagePath, ObjectKey};
use crate::catalogue::{Catalogue, Formula};
use crate::publication::{Need, NeededBottle};
use crate::selection::{Layout, Selected, SelectedBottle};

/// Bottles by image.
pub(super) type Left = HashSet<(ImagePath, Digest)>;

/// The needs of `selected`, one an image.
pub(super) fn of(catalogue: &Catalogue, selected: &Selected, layout: Layout) -> Vec<Need> {
    let position = |client: &BottleTag| {
        let at = selected.clients.iter().position(|other| other == client)?;
        u16::try_from(at).ok()
    };
    let need = |formula: &Formula, bottles: &[SelectedBottle]| {
        let index = formula.has_index().then(|| formula.image_tag.clone());
        let is_flat = layout == Layout::Flat && !formula.is_pinned;
        let flat_index =
            index.as_ref().is_some_and(|tag| is_flat && ObjectKey::flat_index(&formula.image, tag).is_some());
        let needed = |bottle: &SelectedBottle| NeededBottle {
            digest: bottle.digest,
            clients: bottle.clients.iter().filter_map(position).collect(),
            flat: bottle.tags.iter().filter_map(|tag| flat_key(formula, tag, flat_index)).collect(),
        };
        Need {
            image: formula.image.clone(),
            index,
            flat_index,
            bottles: bottles.iter().map(needed).collect(),
        }
    };
    let formulae = selected.formulae.iter();
    formulae.map(|one| need(&catalogue.formulae()[one.position], &one.bottles)).collect()
}

/// Takes out what the selection doesn't ask for after all.
pub(super) fn leave_out(needs: &mut Vec<Need>, left: &Left) {
    for need in needs.iter_mut() {
        let image = need.image.clone();
        need.bottles.retain(|bottle| !left.contains(&(image.clone(), bottle.digest)));
    }
    needs.retain(|need| !need.bottles.is_empty());
}

/// The flat name of a bottle: below `taps/` what came from a host of files, at the
/// root homebrew/core's where the layout asks for it.
fn flat_key(formula: &Formula, tag: &BottleTag, is_core: bool) -> Option<ObjectKey> {
    let file = formula.flat_name(tag);
    let key = match &formula.files {
        Some(root) => root.flat_key(&file)?,
        None if is_core => file,
        None => return None,
    };
    ObjectKey::flat(&key).inspect_err(|error| tracing::warn!(%error, "has no flat name")).ok()
}
