//! Takes a document as it is, or out of gzip: some taps publish their catalogue packed.

use std::io::Write as _;
use std::mem;

use flate2::write::MultiGzDecoder;

use super::CatalogueError;

/// What gzip begins with, and JSON never does.
const MAGIC: u8 = 0x1f;

/// Unpacked at once. Gzip makes a thousand bytes of one at most, so that what a piece
/// comes to is bounded too.
const PIECE: usize = 8 << 10;

#[derive(Default)]
pub(super) enum Unpacker {
    /// Nothing has come yet.
    #[default]
    Open,
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Unpacker {
    /// Takes the next bytes, and hands what they are on to `each`.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), CatalogueError>,
    ) -> Result<(), CatalogueError> {
        if matches!(self, Self::Open)
            && let Some(first) = chunk.first()
        {
            *self = match *first {
                MAGIC => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
                _ => Self::Plain,
            };
        }
        let Self::Gzip(decoder) = self else { return each(chunk) };
        for piece in chunk.chunks(PIECE) {
            decoder.write_all(piece).map_err(|error| CatalogueError::Gzip(error.to_string()))?;
            each(&mem::take(decoder.get_mut()))?;
        }
        Ok(())
    }

    /// Ends the document, of which `each` gets what was held back; whether it is whole.
    pub(super) fn finish(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), CatalogueError>,
    ) -> Result<bool, CatalogueError> {
        let Self::Gzip(decoder) = self else { return Ok(true) };
        let is_whole = decoder.try_finish().is_ok();
        each(&mem::take(decoder.get_mut()))?;
        Ok(is_whole)
    }
}
