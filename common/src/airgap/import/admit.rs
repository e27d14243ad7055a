//! Whether a bundle may be applied, and how far the mirror is then.

use crate::airgap::bundle::Header;
use crate::airgap::state::{Applied, Imports};
use crate::airgap::{ImportError, MirrorId};
use crate::bottle::ObjectKey;
use crate::manifest::{self, Manifest};
use crate::store::{StoreError, Version};

use super::Importer;

/// What a bundle means to this mirror.
pub(super) struct Admitted {
    pub(super) imports: Imports,
    version: Version,
}

impl Importer {
    /// How far the mirror is. A mirror of which nothing is known any longer takes no
    /// bundle: none would be taken for newer than what it holds.
    pub(super) async fn known(&self) -> Result<Option<Imports>, ImportError> {
        let Some((imports, _)) = Imports::load(self.store()).await? else {
            let is_new = !self.has_manifest().await?;
            // A first import may have been made meanwhile.
            let imports = Imports::load(self.store()).await?.map(|(imports, _)| imports);
            return if is_new || imports.is_some() { Ok(imports) } else { Err(ImportError::Synced) };
        };
        match imports.until {
            Some(have) if !self.has_manifest().await? => Err(ImportError::NoManifest { have }),
            _ => Ok(Some(imports)),
        }
    }

    /// Whether a bundle may be applied; `None` if all of it was.
    pub(super) async fn admit(&self, header: &Header) -> Result<Option<Admitted>, ImportError> {
        let (imports, version) = self.claim(header).await?;
        check_mirror(&imports, &header.mirror)?;
        header.interval.check_follows(imports.until)?;
        let is_newer = imports.until.is_none_or(|have| header.interval.until > have);
        Ok((is_newer || self.again).then_some(Admitted { imports, version }))
    }

    /// The record of imports. It is written before anything else is: what is there from
    /// then on is from an import.
    async fn claim(&self, header: &Header) -> Result<(Imports, Version), ImportError> {
        let begin = Imports::begin(header.mirror.clone());
        loop {
            let known = self.known().await?;
            let loaded = Imports::load(self.store()).await?;
            let version = match loaded {
                Some((imports, version)) if imports.until.is_some() || imports == begin => {
                    return Ok((imports, version));
                }
                Some((_, version)) => Some(version),
                None if known.is_some() => continue,
                None => None,
            };
            header.interval.check_follows(None)?;
            match begin.save(self.store(), version.as_ref()).await {
                Ok(version) => {
                    self.check_unsynced().await?;
                    return Ok((begin, version));
                }
                // Another import was first.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether no `bottles sync` made a mirror here while the record was written: it
    /// looks for the record once its first plan is written.
    async fn check_unsynced(&self) -> Result<(), ImportError> {
        let (manifest, _) = manifest::load(self.store()).await?;
        if !is_synced(&manifest) {
            return Ok(());
        }
        Imports::remove(self.store()).await?;
        Err(ImportError::Synced)
    }

    /// Takes note of a bundle that was applied; how far the mirror is.
    pub(super) async fn conclude(
        &self,
        admitted: Admitted,
        applied: Applied,
    ) -> Result<Imports, ImportError> {
        let Admitted { mut imports, mut version } = admitted;
        let mirror = imports.mirror.clone();
        loop {
            imports.note(applied.clone());
            match imports.save(self.store(), Some(&version)).await {
                Ok(_) => return Ok(imports),
                // Another import has come to its end meanwhile.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            (imports, version) = Imports::load(self.store()).await?.ok_or(ImportError::Synced)?;
            check_mirror(&imports, &mirror)?;
        }
    }

    async fn has_manifest(&self) -> Result<bool, ImportError> {
        let key: ObjectKey = manifest::KEY.parse().map_err(StoreError::from)?;
        Ok(self.store().head(&key).await?.is_some())
    }
}

/// Whether a manifest is of plans, and no bundle was ever applied to it.
pub(super) fn is_synced(manifest: &Manifest) -> bool {
    manifest.imported_until.is_none() && (manifest.planned.is_some() || !manifest.runs.is_empty())
}

fn check_mirror(imports: &Imports, theirs: &MirrorId) -> Result<(), ImportError> {
    let (ours, theirs) = (imports.mirror.clone(), theirs.clone());
    if ours == theirs { Ok(()) } else { Err(ImportError::OtherMirror { theirs, ours }) }
}
