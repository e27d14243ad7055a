//! Packs entries into volumes, as many as it takes.

use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;

use crate::bottle::{Digest, Hasher};
use crate::run::Count;

use super::ExportError;
use super::bundle::{Contents, END, End, HEADER, Header, list_line};
use super::part::{Part, Target};
use super::volume::Writer;

/// Writes a bundle's volumes; none of them has its name before all are whole.
pub(super) struct Packer {
    target: Target,
    header: Header,
    /// No volume is larger than this many bytes, unless one entry alone is.
    most: Option<u64>,
    open: Option<Open>,
    whole: Vec<(Part, u64)>,
    list: Hasher,
}

/// The volume that is being written.
struct Open {
    part: Part,
    writer: Writer,
    /// How many bytes it can take up by now.
    weight: u64,
    holds_any: bool,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What an entry adds to its bytes: headers, one of them for a long name, and padding.
const PER_ENTRY: u64 = 3 << 10;

/// What a volume's own two documents, and its end, take up.
const PER_VOLUME: u64 = 16 << 10;

impl Packer {
    pub(super) fn new(target: Target, header: Header, most: Option<u64>) -> Self {
        Self { target, header, most, open: None, whole: Vec::new(), list: Hasher::new() }
    }

    /// Begins an entry, in another volume if this one has no room for it.
    pub(super) async fn begin(&mut self, name: &str, size: u64) -> Result<(), ExportError> {
        // What doesn't compress grows by some bytes for each block of 128 KiB.
        let weight = size + size / 4096 + PER_ENTRY;
        let is_full =
            |open: &Open| self.most.is_some_and(|most| open.holds_any && open.weight + weight > most);
        if self.open.as_ref().is_some_and(is_full) {
            self.end_volume(None).await?;
        }
        let open = self.volume().await?;
        open.weight += weight;
        open.holds_any = true;
        open.entry(name, size).await
    }

    /// The next bytes of the entry.
    pub(super) async fn chunk(&mut self, bytes: Bytes) -> Result<(), ExportError> {
        self.volume().await?.chunk(bytes).await
    }

    /// Ends the entry.
    pub(super) fn end(&mut self, name: &str, digest: &Digest) {
        self.list.update(list_line(name, digest).as_bytes());
    }

    /// A whole entry.
    pub(super) async fn whole(&mut self, name: &str, bytes: Bytes) -> Result<(), ExportError> {
        let digest = Digest::of(&bytes);
        self.begin(name, bytes.len() as u64).await?;
        self.chunk(bytes).await?;
        self.end(name, &digest);
        Ok(())
    }

    /// Ends the last volume, and gives all of them their names.
    pub(super) async fn finish(
        mut self,
        bottles: Count,
        indexes: u64,
        api_files: u64,
    ) -> Result<Vec<BundleFile>, ExportError> {
        self.volume().await?;
        let entries = std::mem::take(&mut self.list).finish();
        let volumes = self.header.volume;
        self.end_volume(Some(Contents { volumes, bottles, indexes, api_files, entries })).await?;
        self.target.clear(self.header.interval.until)?;
        // The first volume last: without it the others are taken for no bundle.
        let mut files = Vec::new();
        for (part, bytes) in self.whole.into_iter().rev() {
            files.push(BundleFile { path: part.publish()?, bytes });
        }
        files.reverse();
        Ok(files)
    }

    async fn volume(&mut self) -> Result<&mut Open, ExportError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin_volume().await?,
        };
        Ok(self.open.insert(open))
    }

    async fn begin_volume(&mut self) -> Result<Open, ExportError> {
        self.header.volume += 1;
        let path = self.target.path(self.header.interval.until, self.header.volume);
        let part = Part::create(path)?;
        let writer = Writer::start(part.file()?);
        let mut open = Open { part, writer, weight: PER_VOLUME, holds_any: false };
        open.document(HEADER, &self.header).await?;
        Ok(open)
    }

    async fn end_volume(&mut self, contents: Option<Contents>) -> Result<(), ExportError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.document(END, &End { volume: self.header.volume, contents }).await?;
        let Open { part, writer, .. } = open;
        let bytes = writer.finish().await.map_err(|error| ExportError::io(part.path(), &error))?;
        self.whole.push((part, bytes));
        Ok(())
    }
}

impl Open {
    async fn entry(&mut self, name: &str, size: u64) -> Result<(), ExportError> {
        let begun = self.writer.entry(name, size).await;
        begun.map_err(|error| ExportError::io(self.part.path(), &error))
    }

    async fn chunk(&mut self, bytes: Bytes) -> Result<(), ExportError> {
        let written = self.writer.chunk(bytes).await;
        written.map_err(|error| ExportError::io(self.part.path(), &error))
    }

    async fn document(&mut self, name: &str, document: &impl Serialize) -> Result<(), ExportError> {
        let bytes =
            serde_json::to_vec_pretty(document).map_err(|error| ExportError::Document(error.to_string()))?;
        self.entry(name, bytes.len() as u64).await?;
        self.chunk(bytes.into()).await
    }
}
