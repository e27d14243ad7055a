//! Takes what is in a bundle's volumes, and checks all of it.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use crate::airgap::ImportError;
use crate::airgap::bundle::{self, Contents, End, EntryKind, Listing, list_line};
use crate::airgap::volume::{Entry, Reader};
use crate::airgap::volumes::{self, Found};
use crate::bottle::{Digest, Hasher, ObjectKey};
use crate::manifest::Manifest;
use crate::publication::{Set, file_key};
use crate::registry::{ImageIndex, LARGEST_API_FILE, LARGEST_INDEX};
use crate::run::{Count, RunId};
use crate::store::StoreError;

use super::Importer;
use super::write::Writes;

/// Reads one bundle.
pub(super) struct Receiver<'a> {
    pub(super) importer: &'a Importer,
    run: &'a RunId,
    /// What this mirror has.
    pub(super) known: Manifest,
    pub(super) writes: Writes,
    pub(super) received: Received,
    list: Hasher,
    listing: Option<Listing>,
}

/// What came.
#[derive(Default)]
pub(super) struct Received {
    /// Bottles that were written.
    pub(super) written: Count,
    /// Bottles that were there.
    pub(super) found: Count,
    /// All bottles, with their sizes.
    pub(super) bottles: HashMap<ObjectKey, u64>,
    pub(super) indexes: HashMap<ObjectKey, StagedIndex>,
    pub(super) sets: BTreeSet<RunId>,
    pub(super) api_files: u64,
    pub(super) listing: Listing,
}

impl Received {
    /// All bottles in the bundle.
    pub(super) fn total(&self) -> Count {
        Count { bottles: self.bottles.len() as u64, bytes: self.bottles.values().sum() }
    }
}

/// An index that waits to be put in place.
pub(super) struct StagedIndex {
    pub(super) sha256: Digest,
    pub(super) staged: ObjectKey,
    pub(super) names: Vec<Digest>,
}

/// What a bundle says of all bottles is not larger, in bytes.
const LARGEST_LISTING: usize = 512 << 20;

const LARGEST_DOCUMENT: usize = 64 << 10;

impl<'a> Receiver<'a> {
    pub(super) fn new(importer: &'a Importer, run: &'a RunId, known: Manifest) -> Self {
        let writes = Writes::new(importer);
        let (received, list, listing) = (Received::default(), Hasher::new(), None);
        Self { importer, run, known, writes, received, list, listing }
    }

    /// Reads all volumes. When it returns, all that was verified is durable, whether
    /// the rest was right or not.
    pub(super) async fn receive(mut self, found: &Found) -> Result<Received, ImportError> {
        let outcome = self.volumes(found).await;
        let written = self.writes.finish(&mut self.received).await;
        outcome?;
        written?;
        Ok(self.received)
    }

    async fn volumes(&mut self, found: &Found) -> Result<(), ImportError> {
        let mut contents = None;
        for (number, path) in (1..).zip(&found.volumes) {
            let mut reader = Reader::open(path, &self.importer.progress)?;
            let header = reader.header().await.map_err(broke)?;
            if header.volume != number || !header.is_of_the_bundle_of(&found.header) || contents.is_some() {
                return Err(ImportError::WrongVolume(path.clone()));
            }
            let end = self.volume(&mut reader).await?;
            if end.volume != number || end.contents.as_ref().is_some_and(|all| all.volumes != number) {
                return Err(ImportError::WrongVolume(path.clone()));
            }
            contents = end.contents;
        }
        let Some(last) = found.volumes.last() else { return Ok(()) };
        let Some(contents) = contents else {
            let next = volumes::next(last).filter(|_| !found.is_alone);
            return Err(next.map_or_else(|| ImportError::OneOfMany(last.clone()), ImportError::MissingVolume));
        };
        self.check(&contents).map_err(|why| ImportError::Malformed {
            path: last.clone(),
            entry: bundle::END.to_owned(),
            why,
        })
    }

    /// Reads one volume to its last byte.
    async fn volume(&mut self, reader: &mut Reader) -> Result<End, ImportError> {
        let mut end = None;
        while let Some(entry) = reader.next().await? {
            if end.is_some() {
                return Err(reader.malformed("it stands behind the end".to_owned()));
            }
            let Some(kind) = EntryKind::of(&entry.name) else {
                return Err(reader.malformed("it is nothing that a bundle holds".to_owned()));
            };
            if kind == EntryKind::End {
                end = Some(read_end(reader).await?);
                continue;
            }
            let digest = self.entry(reader, &entry, kind).await?;
            self.list.update(list_line(&entry.name, &digest).as_bytes());
        }
        end.ok_or_else(|| reader.cut_short())
    }

    /// Takes one entry; its digest.
    async fn entry(
        &mut self,
        reader: &mut Reader,
        entry: &Entry,
        kind: EntryKind,
    ) -> Result<Digest, ImportError> {
        match kind {
            EntryKind::Bottle(key, digest) => {
                self.bottle(reader, &key, digest, entry.size).await?;
                self.received.bottles.insert(key, entry.size);
                Ok(digest)
            }
            EntryKind::Index(key) => {
                let bytes = reader.all(LARGEST_INDEX).await?;
                let index = ImageIndex::parse(bytes.clone()).map_err(|why| reader.malformed(why))?;
                let sha256 = Digest::of(&bytes);
                // Where a plan puts it as well: one flat folder, whatever the key's depth.
                let name = Digest::of(key.as_str().as_bytes());
                let staged = ObjectKey::sync(&format!("{}/staged/{name}.json", self.run.folder()));
                let staged = staged.map_err(StoreError::from)?;
                self.write(staged.clone(), bytes).await?;
                let names = index.digests().copied().collect();
                self.received.indexes.insert(key, StagedIndex { sha256, staged, names });
                Ok(sha256)
            }
            EntryKind::ApiFile(sha256) => {
                let bytes = reader.all(LARGEST_API_FILE).await?;
                let actual = Digest::of(&bytes);
                if actual != sha256 {
                    return Err(wrong_digest(reader, &entry.name, actual));
                }
                self.write(file_key(&sha256)?, bytes).await?;
                self.received.api_files += 1;
                Ok(sha256)
            }
            EntryKind::Set(run) => {
                let bytes = reader.all(LARGEST_LISTING).await?;
                let set = Set::decode(&bytes).map_err(|why| reader.malformed(why))?;
                if set.run != run {
                    return Err(reader.malformed("it is of another run".to_owned()));
                }
                set.save(self.importer.store()).await?;
                self.received.sets.insert(run);
                Ok(Digest::of(&bytes))
            }
            EntryKind::Listing => {
                let bytes = reader.all(LARGEST_LISTING).await?;
                let listing = Listing::decode(&bytes);
                let listing =
                    listing.map_err(|error| ImportError::unreadable(reader.path(), &entry.name, error))?;
                self.check_listing(&listing).map_err(|why| reader.malformed(why))?;
                self.listing = Some(listing);
                Ok(Digest::of(&bytes))
            }
            EntryKind::End => Ok(Digest::of(b"")),
        }
    }

    async fn write(&mut self, key: ObjectKey, bytes: Bytes) -> Result<(), ImportError> {
        self.writes.object(key, bytes, &mut self.received).await
    }

    /// Whether the listing and the entries before it speak of the same.
    fn check_listing(&self, listing: &Listing) -> Result<(), String> {
        let (mut bottles, mut indexes) = (0, 0);
        for image in &listing.images {
            for (digest, bottle) in image.bottles.iter().filter(|(_, bottle)| bottle.carried) {
                let key = ObjectKey::blob(&image.path, digest);
                match self.received.bottles.get(&key) {
                    Some(size) if *size == bottle.size && bottle.dead.is_none() => bottles += 1,
                    _ => return Err(format!("it speaks of {key}, which is not in the bundle")),
                }
            }
            for (tag, sha256) in &image.indexes {
                let key = ObjectKey::index(&image.path, tag);
                match self.received.indexes.get(&key) {
                    Some(index) if index.sha256 == *sha256 => indexes += 1,
                    _ => return Err(format!("it speaks of {key}, which is not in the bundle")),
                }
            }
        }
        if let Some(set) = listing.sets.iter().find(|set| !self.received.sets.contains(&set.run)) {
            return Err(format!("it speaks of the API files of {}, which are not in the bundle", set.run));
        }
        if (bottles, indexes) != (self.received.bottles.len(), self.received.indexes.len()) {
            return Err("it does not speak of all that is in the bundle".to_owned());
        }
        Ok(())
    }

    /// Whether all came that the bundle's end counts.
    fn check(&mut self, contents: &Contents) -> Result<(), String> {
        let received = &mut self.received;
        let came = (received.total(), received.indexes.len() as u64, received.api_files);
        if came != (contents.bottles, contents.indexes, contents.api_files) {
            return Err("it counts other entries than came".to_owned());
        }
        if std::mem::take(&mut self.list).finish() != contents.entries {
            return Err("the entries are not those that it hashes".to_owned());
        }
        received.listing = self.listing.take().ok_or("there is no listing")?;
        Ok(())
    }
}

/// What is no bundle is one that broke where others of it were taken before.
fn broke(error: ImportError) -> ImportError {
    match error {
        ImportError::NoHeader { path, why } => {
            ImportError::Damaged { path, after: "its beginning".to_owned(), why }
        }
        error => error,
    }
}

async fn read_end(reader: &mut Reader) -> Result<End, ImportError> {
    let bytes = reader.all(LARGEST_DOCUMENT).await?;
    serde_json::from_slice(&bytes).map_err(|error| reader.malformed(error.to_string()))
}

pub(super) fn wrong_digest(reader: &Reader, entry: &str, actual: Digest) -> ImportError {
    ImportError::WrongDigest { path: reader.path().to_owned(), entry: entry.to_owned(), actual }
}
