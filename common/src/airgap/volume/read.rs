//! Reads a volume.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::airgap::bundle::{self, HEADER, Header};
use crate::airgap::{ImportError, Progress};

use super::{PORTION, WAITING};

/// Reads one volume.
pub(in crate::airgap) struct Reader {
    path: PathBuf,
    events: mpsc::Receiver<io::Result<Event>>,
    /// Of the entry that is being read.
    left: u64,
    /// The last entry that came whole, to say how far the volume is good.
    whole: Option<String>,
    current: Option<String>,
}

/// An entry whose bytes follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::airgap) struct Entry {
    pub(in crate::airgap) name: String,
    pub(in crate::airgap) size: u64,
}

enum Event {
    Entry(Entry),
    Chunk(Bytes),
    /// The archive ended as it should, to its last byte.
    End,
}

impl Reader {
    /// Begins to read a volume.
    pub(in crate::airgap) fn open(path: &Path, progress: &Progress) -> Result<Self, ImportError> {
        let file = File::open(path)
            .map_err(|error| ImportError::Input { path: path.to_owned(), cause: error.to_string() })?;
        let (sender, events) = mpsc::channel(WAITING);
        let counted = Counted { file, progress: progress.clone() };
        tokio::task::spawn_blocking(move || {
            // Whoever doesn't listen any more needs no answer.
            let _ = match read(counted, &sender) {
                Ok(()) => sender.blocking_send(Ok(Event::End)),
                Err(error) => sender.blocking_send(Err(error)),
            };
        });
        Ok(Self { path: path.to_owned(), events, left: 0, whole: None, current: None })
    }

    /// What a volume says that it is.
    pub(in crate::airgap) async fn header_of(path: &Path) -> Result<Header, ImportError> {
        Self::open(path, &Progress::default())?.header().await
    }

    /// What this volume says that it is: its first entry.
    pub(in crate::airgap) async fn header(&mut self) -> Result<Header, ImportError> {
        let why = match self.next().await {
            Ok(Some(entry)) if entry.name == HEADER => None,
            Ok(_) => Some(format!("it does not begin with {HEADER}")),
            // Whatever it is, it is not a bundle that broke: those begin well.
            Err(ImportError::Damaged { why, .. }) => Some(why),
            Err(error) => return Err(error),
        };
        if let Some(why) = why {
            return Err(ImportError::NoHeader { path: self.path.clone(), why });
        }
        let bytes = self.all(64 << 10).await?;
        bundle::document(&bytes).map_err(|error| ImportError::unreadable(&self.path, HEADER, error))
    }

    /// The next entry; `None` at the archive's end. What is left of the one before is
    /// passed over.
    pub(in crate::airgap) async fn next(&mut self) -> Result<Option<Entry>, ImportError> {
        while self.chunk().await?.is_some() {}
        if let Some(name) = self.current.take() {
            self.whole = Some(name);
        }
        match self.event().await? {
            Event::Entry(entry) => {
                self.left = entry.size;
                self.current = Some(entry.name.clone());
                Ok(Some(entry))
            }
            Event::End => Ok(None),
            Event::Chunk(_) => Err(self.broken(&io::Error::other("an entry has more bytes than it says"))),
        }
    }

    /// The next bytes of the entry; `None` at its end.
    pub(in crate::airgap) async fn chunk(&mut self) -> Result<Option<Bytes>, ImportError> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.event().await? {
            Event::Chunk(bytes) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Ok(Some(bytes))
            }
            _ => Err(self.broken(&io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
    }

    /// All bytes of the entry, which may be no more than `most`.
    pub(in crate::airgap) async fn all(&mut self, most: usize) -> Result<Bytes, ImportError> {
        let size = usize::try_from(self.left).ok().filter(|size| *size <= most);
        let Some(size) = size else {
            return Err(self.malformed(format!("it has {} bytes, and {most} at most are right", self.left)));
        };
        let mut bytes = BytesMut::with_capacity(size);
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Where it is read from.
    pub(in crate::airgap) fn path(&self) -> &Path {
        &self.path
    }

    /// The entry that is being read is not what it should be.
    pub(in crate::airgap) fn malformed(&self, why: String) -> ImportError {
        let entry = self.current.clone().unwrap_or_default();
        ImportError::Malformed { path: self.path.clone(), entry, why }
    }

    /// The volume ended before it said so.
    pub(in crate::airgap) fn cut_short(&self) -> ImportError {
        let after = self.whole.clone().unwrap_or_else(|| "its beginning".to_owned());
        ImportError::CutShort { path: self.path.clone(), after }
    }

    async fn event(&mut self) -> Result<Event, ImportError> {
        match self.events.recv().await {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.broken(&error)),
            None => Err(self.broken(&io::Error::other("the thread that reads it ended"))),
        }
    }

    fn broken(&self, error: &io::Error) -> ImportError {
        let after = self.whole.clone().unwrap_or_else(|| "its beginning".to_owned());
        if error.raw_os_error().is_some() {
            ImportError::Input { path: self.path.clone(), cause: error.to_string() }
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            self.cut_short()
        } else {
            ImportError::Damaged { path: self.path.clone(), after, why: error.to_string() }
        }
    }
}

/// No entry has a longer name, in bytes: keys have no more than 1024.
const LONGEST_NAME: usize = 4 << 10;

/// Sends what is in an archive. Ends early, and without a word, if nobody listens.
fn read(file: Counted, events: &mpsc::Sender<io::Result<Event>>) -> io::Result<()> {
    let mut archive = tar::Archive::new(zstd::Decoder::with_buffer(BufReader::with_capacity(PORTION, file))?);
    let mut long_name = None;
    // As they are: the library would read names and attributes of any length into memory.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let (kind, size) = (entry.header().entry_type(), entry.size());
        if kind.is_gnu_longname() && long_name.is_none() {
            long_name = Some(read_name(&mut entry, size)?);
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let name = String::from_utf8(name).map_err(invalid)?;
        if !kind.is_file() {
            return Err(invalid(format!("{name} is not a plain file")));
        }
        if events.blocking_send(Ok(Event::Entry(Entry { name, size }))).is_err() {
            return Ok(());
        }
        let mut left = size;
        while left > 0 {
            let mut portion = BytesMut::zeroed(usize::try_from(left).unwrap_or(PORTION).min(PORTION));
            entry.read_exact(&mut portion)?;
            left -= portion.len() as u64;
            if events.blocking_send(Ok(Event::Chunk(portion.freeze()))).is_err() {
                return Ok(());
            }
        }
    }
    // The checksum stands behind the archive's end.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// A name that is too long for an entry's header, and stands before it.
fn read_name(entry: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(size).ok().filter(|length| *length <= LONGEST_NAME);
    let length = length.ok_or_else(|| invalid(format!("an entry's name has {size} bytes")))?;
    let mut name = vec![0; length];
    entry.read_exact(&mut name)?;
    while name.pop_if(|byte| *byte == 0).is_some() {}
    Ok(name)
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A file that counts what is read of it.
struct Counted {
    file: File,
    progress: Progress,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}
