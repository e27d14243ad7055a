//! Catalogue and API files of one moment.

use crate::manifest::{Manifest, PlannedCatalogue};
use crate::publication::{ApiPath, Set};

use super::api::{ApiError, Catalogue, StagedFiles};
use super::sources::{Looked, Sources};
use super::{Mode, PlanError, Planner, UnreadTap};

/// What upstream offered at one moment.
pub(super) struct Moment {
    /// The catalogues; `None` if they are those that were planned before.
    pub(super) sources: Option<Sources>,
    /// The taps that are not among them.
    pub(super) unread: Vec<UnreadTap>,
    /// The API files, staged; `None` if they can't be had, and in a dry run.
    pub(super) files: Option<StagedFiles>,
    /// The set that was staged last.
    pub(super) newest: Option<Set>,
    /// Why there are no files.
    pub(super) trouble: Option<String>,
}

/// Upstream is read again so often if it changes in the middle. It publishes every
/// quarter of an hour, and is read in a minute.
const TRIES: usize = 4;

impl Planner {
    /// Reads catalogue, API files, and the catalogue once more: again from the start
    /// if it changed in between.
    pub(super) async fn read_moment(&self, mode: Mode, manifest: &Manifest) -> Result<Moment, PlanError> {
        // A dry run tells all that there is to tell, and what is planned in part is not
        // what clients read: both read every catalogue, and no API file.
        if mode != Mode::Queue || self.settings.is_partial {
            let Looked { sources, unread } = self.read_sources(None).await?;
            return Ok(Moment { sources, unread, files: None, newest: None, trouble: None });
        }
        let newest = self.newest_set(manifest).await?;
        let known = newest.as_ref().and_then(|_| self.known_catalogue(manifest));
        let Looked { mut sources, mut unread } = self.read_sources(known).await?;
        let mut trouble = None;
        for _ in 0..TRIES {
            match self.read_files(sources.as_ref(), known, newest.as_ref()).await {
                Ok(Some(files)) => {
                    return Ok(Moment { sources, unread, files: Some(files), newest, trouble: None });
                }
                Ok(None) => {
                    tracing::info!("upstream changed while it was read: reading it again");
                    Looked { sources, unread } = self.read_sources(None).await?;
                    trouble = Some(format!("upstream changed {TRIES} times while it was read"));
                }
                Err(error) => {
                    trouble = Some(error.to_string());
                    break;
                }
            }
        }
        if let Some(trouble) = &trouble {
            tracing::warn!(trouble, "no API files were staged: what is published stays");
        }
        Ok(Moment { sources, unread, files: None, newest, trouble })
    }

    /// The files that belong to a catalogue; `None` if it changed meanwhile.
    async fn read_files(
        &self,
        sources: Option<&Sources>,
        known: Option<&PlannedCatalogue>,
        newest: Option<&Set>,
    ) -> Result<Option<StagedFiles>, ApiError> {
        let clients = match (sources, newest) {
            (Some(sources), _) => self.selection.clients(&sources.catalogue),
            (None, Some(newest)) => newest.clients.clone(),
            (None, None) => Vec::new(),
        };
        let path = ApiPath::catalogue();
        let before = match sources {
            Some(sources) => Some((sources.sha256, sources.validators.clone())),
            None => newest
                .and_then(|set| Some(set.files.get(&path)?.sha256))
                .zip(known.map(|known| known.validators.clone())),
        };
        let Some((sha256, validators)) = before else { return Ok(None) };
        let mut files = self.stage_files(&clients, newest).await?;
        match self.stage_catalogue(&path, sha256, &validators, newest).await? {
            Catalogue::Changed => Ok(None),
            Catalogue::Same(file, is_fresh) => {
                files.files.insert(path, file);
                files.fresh += usize::from(is_fresh);
                Ok(Some(files))
            }
        }
    }

    async fn newest_set(&self, manifest: &Manifest) -> Result<Option<Set>, PlanError> {
        let Some(run) = manifest.publication.newest() else { return Ok(None) };
        match Set::load(&*self.store, run).await {
            Ok(set) => Ok(set),
            Err(crate::publication::SetError::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::error!(%error, "reading the API files anew");
                Ok(None)
            }
        }
    }

    /// The catalogue that the manifest accounts for: only if the last plan left
    /// nothing undone, was about the same selection, and nothing of it came undone
    /// since.
    fn known_catalogue<'a>(&self, manifest: &'a Manifest) -> Option<&'a PlannedCatalogue> {
        let planned = manifest.planned.as_ref()?;
        let same =
            planned.url == self.catalogue_url().as_str() && planned.selection == self.selection.fingerprint();
        let now = self.clock.now();
        let mut records = manifest.images.values().flat_map(|image| image.bottles.values());
        (same && records.all(|record| record.is_accounted_for(now))).then_some(planned)
    }
}
