//! The catalogues that a plan is made from: upstream's, and those of other taps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use url::Url;

use crate::bottle::{Digest, FormulaName};
use crate::catalogue::{Catalogue, Reader};
use crate::manifest::PlannedCatalogue;
use crate::registry::{CatalogueAnswer, Validators};
use crate::selection::TapSource;

use super::{PlanError, Planner, UnreadTap};

/// All catalogues as one.
pub(super) struct Sources {
    pub(super) catalogue: Catalogue,
    /// Upstream's own.
    pub(super) validators: Validators,
    /// Of its bytes.
    pub(super) sha256: Digest,
    /// The taps', by where they came from.
    pub(super) taps: BTreeMap<String, Validators>,
    /// What the keys of images begin with that the catalogues speak for.
    pub(super) roots: BTreeSet<String>,
}

/// What a look at all catalogues came to.
pub(super) struct Looked {
    /// The catalogues; `None` if they are those that were known.
    pub(super) sources: Option<Sources>,
    /// The taps that are not among them.
    pub(super) unread: Vec<UnreadTap>,
}

/// One tap's catalogue; `None` if it is the one that is known.
type TapAnswer = Option<(Catalogue, Validators)>;

impl Planner {
    /// Reads the catalogues; none if all are those that are `known`. A tap's that can't
    /// be read is left out, as upstream's own must not wait for it.
    pub(super) async fn read_sources(&self, known: Option<&PlannedCatalogue>) -> Result<Looked, PlanError> {
        let core = self.read_core(known.map(|known| &known.validators)).await?;
        let mut unread = Vec::new();
        let mut taps = Vec::new();
        for tap in &self.selection.file().taps {
            let known = known.and_then(|known| known.taps.get(&tap.catalogue));
            if let Some(answer) = self.try_tap(tap, known, &mut unread).await {
                taps.push((tap, answer));
            }
        }
        if matches!(core, CatalogueAnswer::Unchanged) && taps.iter().all(|(_, answer)| answer.is_none()) {
            return Ok(Looked { sources: None, unread });
        }
        // One of them is another: then all are needed.
        let core = match core {
            CatalogueAnswer::Unchanged => self.read_core(None).await?,
            fresh @ CatalogueAnswer::Fresh { .. } => fresh,
        };
        let CatalogueAnswer::Fresh { mut catalogue, validators, sha256 } = core else {
            return Ok(Looked { sources: None, unread });
        };
        let mut known = BTreeMap::new();
        for (tap, answer) in taps {
            let answer = match answer {
                None => self.try_tap(tap, None, &mut unread).await.flatten(),
                fresh => fresh,
            };
            if let Some((other, validators)) = answer {
                catalogue.append(other);
                known.insert(tap.catalogue.clone(), validators);
            }
        }
        catalogue.pin_portable_ruby(self.selection.pins());
        let roots = catalogue.formulae().iter().map(|formula| formula.root().to_owned()).collect();
        let sources = Sources { catalogue, validators, sha256, taps: known, roots };
        Ok(Looked { sources: Some(sources), unread })
    }

    async fn read_core(&self, known: Option<&Validators>) -> Result<CatalogueAnswer, PlanError> {
        let url = self.catalogue_url();
        let answer = self.upstream.catalogue(&url, known).await;
        answer.map_err(|source| PlanError::Catalogue { url, source })
    }

    /// Reads a tap's catalogue; `None`, and a note, if it can't be.
    async fn try_tap(
        &self,
        tap: &TapSource,
        known: Option<&Validators>,
        unread: &mut Vec<UnreadTap>,
    ) -> Option<TapAnswer> {
        let answer = self.read_tap(&tap.catalogue, known).await;
        match answer.and_then(|answer| checked(tap, answer)) {
            Ok(answer) => Some(answer),
            Err(why) => {
                let (name, why) = (tap.name.clone(), format!("{}: {why}", tap.catalogue));
                tracing::error!(
                    tap = name,
                    why,
                    "the tap's catalogue can't be read: what is mirrored of it stays"
                );
                unread.push(UnreadTap { name, why });
                None
            }
        }
    }

    async fn read_tap(&self, place: &str, known: Option<&Validators>) -> Result<TapAnswer, String> {
        if !place.contains("://") {
            return read_file(Path::new(place), known).await;
        }
        let url = Url::parse(place).map_err(|error| error.to_string())?;
        match self.upstream.catalogue(&url, known).await {
            Ok(CatalogueAnswer::Unchanged) => Ok(None),
            Ok(CatalogueAnswer::Fresh { catalogue, validators, .. }) => Ok(Some((catalogue, validators))),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A catalogue that is the tap's own. Of another, formulae would be taken for those of a
/// tap that nobody named, or for homebrew/core's.
fn checked(tap: &TapSource, answer: TapAnswer) -> Result<TapAnswer, String> {
    let is_own = |name: &FormulaName| name.tap().is_some_and(|own| own.eq_ignore_ascii_case(&tap.name));
    let formulae = answer.iter().flat_map(|(catalogue, _)| catalogue.formulae());
    match formulae.map(|formula| &formula.name).find(|name| !is_own(name)) {
        Some(stranger) => Err(format!("it lists {stranger}, which is not of the tap {}", tap.name)),
        None => Ok(answer),
    }
}

/// Reads a catalogue from a file; what tells whether it changed is its digest.
async fn read_file(path: &Path, known: Option<&Validators>) -> Result<TapAnswer, String> {
    let path = path.to_owned();
    let bytes = tokio::task::spawn_blocking(move || std::fs::read(path));
    let bytes = bytes.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let validators = Validators { etag: Some(Digest::of(&bytes).to_string()), last_modified: None };
    if known == Some(&validators) {
        return Ok(None);
    }
    let mut reader = Reader::new();
    reader.push(&bytes).map_err(|error| error.to_string())?;
    Ok(Some((reader.finish().map_err(|error| error.to_string())?, validators)))
}
