//! Writes a volume.

use std::fs::File;
use std::io::{self, BufWriter, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{PORTION, WAITING};

/// zstd's fastest level: bottles are compressed already.
const LEVEL: i32 = 1;

/// Writes one volume.
pub(in crate::airgap) struct Writer {
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<io::Result<u64>>,
}

enum Piece {
    Entry { name: String, size: u64 },
    Chunk(Bytes),
    End,
}

impl Writer {
    /// Begins a volume in an empty file.
    pub(in crate::airgap) fn start(file: File) -> Self {
        let (pieces, receiver) = mpsc::channel(WAITING);
        Self { pieces, thread: tokio::task::spawn_blocking(move || write(file, receiver)) }
    }

    /// Begins an entry; its `size` bytes follow in chunks.
    pub(in crate::airgap) async fn entry(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.send(Piece::Entry { name: name.to_owned(), size }).await
    }

    /// The next bytes of the entry.
    pub(in crate::airgap) async fn chunk(&mut self, mut bytes: Bytes) -> io::Result<()> {
        // In portions, so that what waits between the threads is little.
        while !bytes.is_empty() {
            let portion = bytes.split_to(bytes.len().min(PORTION));
            self.send(Piece::Chunk(portion)).await?;
        }
        Ok(())
    }

    /// Ends the volume, and makes it durable; its length in bytes.
    pub(in crate::airgap) async fn finish(mut self) -> io::Result<u64> {
        self.send(Piece::End).await?;
        drop(self.pieces);
        joined(self.thread.await)
    }

    async fn send(&mut self, piece: Piece) -> io::Result<()> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // The thread ended early, and knows why.
        match joined((&mut self.thread).await) {
            Ok(_) => Err(io::Error::other("the volume has ended")),
            Err(error) => Err(error),
        }
    }
}

fn joined(ended: Result<io::Result<u64>, tokio::task::JoinError>) -> io::Result<u64> {
    ended.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn write(file: File, mut pieces: mpsc::Receiver<Piece>) -> io::Result<u64> {
    let mut encoder = zstd::Encoder::new(BufWriter::with_capacity(PORTION, file), LEVEL)?;
    encoder.include_checksum(true)?;
    let mut archive = tar::Builder::new(encoder);
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Entry { name, size }) => {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(0o644);
                header.set_size(size);
                let body = Chunks { pieces: &mut pieces, chunk: Bytes::new(), left: size };
                archive.append_data(&mut header, &name, body)?;
            }
            Some(Piece::End) => break,
            Some(Piece::Chunk(_)) => return Err(io::Error::other("an entry is longer than it said")),
            None => return Err(io::Error::other("it was given up")),
        }
    }
    let writer = archive.into_inner()?.finish()?;
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// The bytes of one entry, as they come.
struct Chunks<'a> {
    pieces: &'a mut mpsc::Receiver<Piece>,
    chunk: Bytes,
    left: u64,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        while self.chunk.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Piece::Chunk(chunk)) => self.chunk = chunk,
                Some(_) => return Err(io::Error::other("an entry is shorter than it said")),
                None => return Err(io::Error::other("it was given up")),
            }
        }
        let length = buffer.len().min(self.chunk.len());
        let Some(left) = self.left.checked_sub(length as u64) else {
            return Err(io::Error::other("an entry is longer than it said"));
        };
        self.chunk.copy_to_slice(&mut buffer[..length]);
        self.left = left;
        Ok(length)
    }
}
