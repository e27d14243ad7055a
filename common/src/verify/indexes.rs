//! Image indexes: those in place, to the byte, and those that wait.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::bottle::{Digest, ImagePath, ObjectKey};
use crate::receipt::What;
use crate::registry::{ImageIndex, LARGEST_INDEX};
use crate::store::{ObjectMeta, StoreError};

use super::finding::{Content, Finding, Kind, Remedy, Subject};
use super::look::{Bottle, Index, Look};
use super::{Stage, Verifier};

/// The bottles that an index names.
pub(super) type Names = BTreeSet<Digest>;

/// An index that was read.
enum Read {
    /// Its sha256, and what it names or why that can't be said.
    Whole(Digest, Result<Names, String>),
    /// It can't be read.
    Unreadable(String),
    /// It went away meanwhile.
    Gone,
}

impl Verifier {
    pub(super) async fn read_indexes(
        &self,
        there: Vec<(ObjectMeta, Index<'_>)>,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        self.progress.begin(Stage::Indexes, there.len());
        let reads = there.into_iter().map(|(meta, index)| async move {
            let read = self.read_index(&meta).await?;
            Ok::<_, StoreError>((meta, index, read))
        });
        let mut reads = stream::iter(reads).buffer_unordered(self.settings.concurrency);
        while let Some((meta, index, read)) = reads.try_next().await? {
            self.progress.step(1);
            look.note_index(meta, index, read);
        }
        Ok(())
    }

    async fn read_index(&self, meta: &ObjectMeta) -> Result<Read, StoreError> {
        if meta.size > LARGEST_INDEX as u64 {
            return Ok(Read::Unreadable(format!("it is larger than an index can be: {} bytes", meta.size)));
        }
        match self.patient(|| self.store.get(&meta.key)).await {
            Ok(None) => Ok(Read::Gone),
            Ok(Some(object)) => {
                let sha256 = Digest::of(&object.body);
                let names = ImageIndex::parse(object.body).map(|index| index.digests().copied().collect());
                Ok(Read::Whole(sha256, names))
            }
            Err(error) => Ok(Read::Unreadable(self.tolerate(error)?)),
        }
    }
}

impl Look {
    fn note_index(&mut self, meta: ObjectMeta, index: Index<'_>, read: Read) {
        let ObjectMeta { key, size, .. } = meta;
        let content = |sha256| Some(Content { size: Some(size), sha256 });
        let (sha256, names) = match read {
            Read::Gone => {
                if index.sha256().is_some() {
                    self.findings.push(index.finding(Kind::Missing, key, None));
                }
                return;
            }
            Read::Unreadable(why) => {
                self.findings.push(index.finding(Kind::Unreadable, key, content(None)).saying(why));
                return;
            }
            Read::Whole(sha256, names) => (sha256, names),
        };
        self.checked.indexes += 1;
        // A settle writes the copy of a newer one before the manifest says so.
        let is_newer_copy = index.is_flat() && sha256 == index.record.sha256;
        let is_wrong = !is_newer_copy && index.sha256().is_some_and(|expected| expected != sha256);
        match names {
            Err(why) => {
                let kind = if is_wrong { Kind::WrongChecksum } else { Kind::Unreadable };
                self.findings.push(index.finding(kind, key, content(Some(sha256))).saying(why));
            }
            Ok(_) if is_wrong => {
                self.findings.push(index.finding(Kind::WrongChecksum, key, content(Some(sha256))));
            }
            Ok(names) => {
                // What waits to replace it names what was fetched since.
                if index.is_in_place() && !index.is_flat() {
                    self.note_lacking(&key, index, &names);
                }
                self.names.insert(key, names);
            }
        }
    }

    /// Held bottles that the index of their tag doesn't name. One that upstream
    /// dropped may have been replaced under the same tag.
    fn note_lacking(&mut self, key: &ObjectKey, index: Index<'_>, names: &Names) {
        for (digest, record) in &index.image.bottles {
            let bottle = Bottle { path: index.path, image: index.image, digest, record };
            let is_dropped = record.dropped_at.is_some() || record.superseded_at.is_some();
            if record.image_tag == *index.tag && bottle.is_held() && !is_dropped && !names.contains(digest) {
                let mut finding = index.finding(Kind::LacksBottle, key.clone(), None);
                finding.tags.clone_from(&record.tags);
                finding.expected = None;
                self.findings.push(finding.saying(format!("it does not name {digest}")));
            }
        }
    }
}

/// What can be asked for an index of which the manifest may know nothing.
pub(super) fn reindex(image: &ImagePath, tag: &crate::bottle::ImageTag) -> Remedy {
    Remedy::Order(What::Reindex { image: image.clone(), tag: tag.clone() })
}

/// An index that published files need, and that is not as they need it.
pub(super) fn unmet(image: &ImagePath, tag: &crate::bottle::ImageTag, key: ObjectKey) -> Finding {
    let subject = if key.as_str().starts_with("v2/") { Subject::Index } else { Subject::FlatIndex };
    let mut finding = Finding::new(Kind::NotHeld, subject, key);
    finding.image_tag = Some(tag.clone());
    finding.remedied_by(reindex(image, tag))
}
