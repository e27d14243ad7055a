//! A bottle that goes to S3 in parts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use crate::aws::Fault;
use crate::bottle::{Digest, ObjectKey, Verified};
use crate::store::{Store as _, StoreError, Upload, check_proof};

use super::S3;
use super::error::failed;

/// One multipart upload.
pub(super) struct S3Upload {
    store: S3,
    key: ObjectKey,
    id: String,
    size: u64,
    part_size: u64,
    state: Mutex<State>,
}

/// How far it is.
enum State {
    /// The parts that S3 has, by number.
    Open(BTreeMap<i32, CompletedPart>),
    Ended,
}

impl S3Upload {
    pub(super) fn new(store: S3, key: ObjectKey, id: String, size: u64, part_size: u64) -> Self {
        Self { store, key, id, size, part_size, state: Mutex::new(State::Open(BTreeMap::new())) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it; the parts, if it was open.
    fn end(&self) -> Option<BTreeMap<i32, CompletedPart>> {
        match std::mem::replace(&mut *self.state(), State::Ended) {
            State::Open(parts) => Some(parts),
            State::Ended => None,
        }
    }

    fn refused(&self, why: &'static str) -> StoreError {
        StoreError::Refused { key: self.key.to_string(), why }
    }

    fn abort_request(
        &self,
    ) -> aws_sdk_s3::operation::abort_multipart_upload::builders::AbortMultipartUploadFluentBuilder {
        let client = &self.store.client;
        client
            .abort_multipart_upload()
            .bucket(self.store.bucket())
            .key(self.store.full(&self.key))
            .upload_id(&self.id)
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn part(&self, index: u32, body: Bytes) -> Result<(), StoreError> {
        let offset = u64::from(index) * self.part_size;
        if body.len() as u64 != self.size.saturating_sub(offset).min(self.part_size) {
            return Err(self.refused("a part has the wrong length"));
        }
        if matches!(*self.state(), State::Ended) {
            return Err(self.refused("the upload has ended"));
        }
        let hashed = body.clone();
        let digest = tokio::task::spawn_blocking(move || Digest::of(&hashed)).await.map_err(|error| {
            StoreError::Failed {
                operation: "hash a part of",
                key: self.key.to_string(),
                cause: error.to_string(),
                transient: false,
            }
        })?;
        // S3 counts from one.
        let number = i32::try_from(index).unwrap_or(i32::MAX).saturating_add(1);
        let checksum = digest.to_base64();
        let request = self
            .store
            .client
            .upload_part()
            .bucket(self.store.bucket())
            .key(self.store.full(&self.key))
            .upload_id(&self.id)
            .part_number(number)
            .checksum_sha256(&checksum)
            .body(body.into());
        let output = request.customize().disable_payload_signing().send().await;
        let output = output.map_err(|error| failed("write a part of", self.key.to_string(), &error))?;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(output.e_tag)
            .checksum_sha256(checksum)
            .build();
        if let State::Open(parts) = &mut *self.state() {
            parts.insert(number, part);
        }
        Ok(())
    }

    async fn complete(&self, proof: Verified) -> Result<(), StoreError> {
        check_proof(&self.key, self.size, &proof)?;
        let Some(parts) = self.end() else { return Err(self.refused("the upload has ended")) };
        // A part that is missing would be left out in silence.
        if parts.len() as u64 != self.size.div_ceil(self.part_size) {
            self.abort_quietly().await;
            return Err(self.refused("a part is missing"));
        }
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(parts.into_values().collect())).build();
        let request = self
            .store
            .client
            .complete_multipart_upload()
            .bucket(self.store.bucket())
            .key(self.store.full(&self.key))
            .upload_id(&self.id)
            .multipart_upload(parts);
        let Err(error) = request.send().await else { return Ok(()) };
        // The answer to an earlier try may have been lost: then the upload is gone
        // because it was completed, with the very parts that were proven.
        if Fault::of(&error).code == "NoSuchUpload"
            && self.store.head(&self.key).await?.is_some_and(|meta| meta.size == self.size)
        {
            return Ok(());
        }
        let error = failed("complete", self.key.to_string(), &error);
        self.abort_quietly().await;
        Err(error)
    }

    async fn abort(&self) -> Result<(), StoreError> {
        if self.end().is_none() {
            return Ok(());
        }
        match self.abort_request().send().await {
            Ok(_) => Ok(()),
            Err(error) if Fault::of(&error).status == 404 => Ok(()),
            Err(error) => Err(failed("abort", self.key.to_string(), &error)),
        }
    }
}

impl S3Upload {
    /// What is left is removed by the bucket's lifecycle rule.
    async fn abort_quietly(&self) {
        if let Err(error) = self.abort_request().send().await
            && Fault::of(&error).status != 404
        {
            let cause = Fault::of(&error).text;
            tracing::warn!(object.key = %self.key, error = cause, "an unfinished upload is left to the lifecycle rule");
        }
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        // Dropped without either call: aborted in the background, where there is one.
        if self.end().is_some()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let request = self.abort_request();
            runtime.spawn(async move {
                let _ = request.send().await;
            });
        }
    }
}
