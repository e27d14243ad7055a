//! Reads what goes into a bundle, and checks it on the way.

use bytes::Bytes;

use crate::bottle::{Digest, Hasher, ObjectKey};
use crate::pipeline::STORE_RETRY;
use crate::store::{Resumed, Store, StoreError};

use super::ExportError;

/// An object that is read once, from its beginning to its end, and should be what it
/// is said to be.
pub(super) struct Source<'a> {
    reader: Resumed<'a>,
    key: &'a ObjectKey,
    expected: Digest,
    hasher: Hasher,
}

impl<'a> Source<'a> {
    /// An object of `size` bytes that should hash to `expected`; `None` if it is gone.
    pub(super) async fn open(
        store: &'a dyn Store,
        key: &'a ObjectKey,
        size: u64,
        expected: Digest,
    ) -> Result<Option<Self>, ExportError> {
        let Some(reader) = Resumed::open(store, key, STORE_RETRY).await? else { return Ok(None) };
        let actual = reader.size();
        let source = Self { reader, key, expected, hasher: Hasher::new() };
        if actual == size {
            Ok(Some(source))
        } else {
            Err(source.damaged(format!("it has {actual} bytes in place of {size}")))
        }
    }

    /// The next bytes; `None` at the end, if all of them hashed right.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ExportError> {
        match self.reader.next().await {
            Ok(Some(chunk)) => {
                self.hasher.update(&chunk);
                return Ok(Some(chunk));
            }
            Ok(None) => {}
            Err(StoreError::Conflict { .. }) => {
                return Err(self.damaged("it was replaced or removed while it was read".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        match std::mem::take(&mut self.hasher).verify(self.expected) {
            Ok(_) => Ok(None),
            Err(mismatch) => Err(self.damaged(format!("its bytes hash to {}", mismatch.actual))),
        }
    }

    /// All of it, in memory: for what is small.
    pub(super) async fn whole(mut self) -> Result<Bytes, ExportError> {
        let mut bytes = bytes::BytesMut::with_capacity(usize::try_from(self.reader.size()).unwrap_or(0));
        while let Some(chunk) = self.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    fn damaged(&self, why: String) -> ExportError {
        ExportError::Damaged { key: self.key.clone(), why }
    }
}

/// Reads a small object; `None` if it is not there.
pub(super) async fn small(store: &dyn Store, key: &ObjectKey) -> Result<Option<Bytes>, StoreError> {
    let object = STORE_RETRY.run(|| store.get(key), |_, _| {}).await?;
    Ok(object.map(|object| object.body))
}
