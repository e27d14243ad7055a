//! What waits to be put in place, to the byte: image indexes, and the files of sets.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::bottle::{Digest, ObjectKey};
use crate::manifest::Manifest;
use crate::publication::{ApiPath, file_key};
use crate::store::StoreError;

use super::Verifier;
use super::finding::{Content, Finding, Kind, Remedy, Subject};
use super::look::{Index, Look};

/// Every plan looks whether the files of the newest set are there.
const NEXT_PLAN: Remedy = Remedy::None("the next plan stages it anew");

const OLDER_SET: Remedy =
    Remedy::None("no plan stages an older set again; two more publications, and it is needed no longer");

/// What became of what waits.
enum Found {
    Right,
    Gone,
    Damaged(Option<Digest>, String),
}

impl Verifier {
    /// Indexes that wait must be where they wait, and be what was read.
    pub(super) async fn read_staged_indexes(
        &self,
        manifest: &Manifest,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        let staged = manifest.images.iter().flat_map(|(path, image)| {
            image.indexes.iter().filter_map(move |(tag, record)| {
                let index = Index { path, image, tag, record, flat: None };
                Some((index, record.staged.as_ref()?))
            })
        });
        let reads = staged.map(|(index, key)| async move {
            Ok::<_, StoreError>((index, key, self.found(key, index.record.sha256).await?))
        });
        let mut reads = stream::iter(reads).buffer_unordered(self.settings.concurrency);
        while let Some((index, key, found)) = reads.try_next().await? {
            look.checked.staged_indexes += 1;
            let finding = |kind, found| index.finding(kind, key.clone(), found);
            look.note_staged(found, index.record.sha256, finding);
        }
        Ok(())
    }

    /// The same of the files of every set that waits, is read, or was read before.
    pub(super) async fn read_staged_files(
        &self,
        manifest: &Manifest,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        let newest = manifest.publication.newest();
        let mut files: BTreeMap<Digest, (ApiPath, Remedy)> = BTreeMap::new();
        for run in manifest.publication.runs() {
            // One that can't be read is told of where it is needed.
            let Some(Ok(set)) = self.set(run).await? else { continue };
            let remedy = if Some(run) == newest { NEXT_PLAN } else { OLDER_SET };
            let of_set = set.files.into_iter().map(|(path, file)| (file.sha256, (path, remedy.clone())));
            files.extend(of_set);
        }
        let reads = files.into_iter().map(|(sha256, of)| async move {
            let key = file_key(&sha256)?;
            let found = self.found(&key, sha256).await?;
            Ok::<_, StoreError>((sha256, of, key, found))
        });
        let mut reads = stream::iter(reads).buffer_unordered(self.settings.concurrency);
        while let Some((sha256, (path, remedy), key, found)) = reads.try_next().await? {
            look.checked.staged_files += 1;
            let finding = |kind, found| {
                let finding = Finding::new(kind, Subject::ApiFile, key.clone()).saying(path.as_str());
                finding.comparing(Content::default(), found).remedied_by(remedy.clone())
            };
            look.note_staged(found, sha256, finding);
        }
        Ok(())
    }

    async fn found(&self, key: &ObjectKey, expected: Digest) -> Result<Found, StoreError> {
        Ok(match self.hash(key).await {
            Ok(Some(sha256)) if sha256 == expected => Found::Right,
            Ok(Some(sha256)) => Found::Damaged(Some(sha256), format!("it hashes to {sha256}")),
            Ok(None) => Found::Gone,
            Err(error) => Found::Damaged(None, self.tolerate(error)?),
        })
    }
}

impl Look {
    fn note_staged(
        &mut self,
        found: Found,
        expected: Digest,
        finding: impl Fn(Kind, Option<Content>) -> Finding,
    ) {
        let mut finding = match found {
            Found::Right => return,
            Found::Gone => finding(Kind::StagedGone, None),
            Found::Damaged(sha256, why) => {
                let finding = finding(Kind::StagedDamaged, Some(Content { size: None, sha256 }));
                let what = finding.detail.as_ref().map(|what| format!("{what}: ")).unwrap_or_default();
                finding.saying(format!("{what}{why}"))
            }
        };
        finding.expected = Some(Content { size: None, sha256: Some(expected) });
        self.findings.push(finding);
    }
}
