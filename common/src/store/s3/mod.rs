//! S3, and stores that speak as S3 does.
//!
//! S3 itself checks what a key promises: a single write carries the expected
//! digest as its checksum, so that other bytes are refused; each part of an
//! upload carries its own, and an upload is completed only with the proof that
//! all of it hashed right.

mod copy;
mod error;
mod location;
mod upload;

use std::collections::HashMap;
use std::ops::Range;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, Delete, ObjectIdentifier};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::aws::{ATTEMPTS, Fault};
use crate::bottle::{Digest, ObjectKey, Verified};

use super::{
    Body, Condition, Headers, LARGEST_COPY, ObjectMeta, Reading, Store, StoreError, Tags, Upload, Version,
    check_adoption, check_copy, check_deletable, check_promise, check_taggable,
};

use error::{failed, is_absent, is_conflict};
use upload::S3Upload;

pub use location::{InvalidLocation, Location};

/// A listing returns at most this many keys a request, and so many are removed in one.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
const MOST_KEYS: usize = 1000;

/// Requests of one call that are under way at once.
const REQUESTS_AT_ONCE: usize = 8;

/// The metadata that tell when an object changed where it came from: S3 itself only
/// tells when it was written.
const MODIFIED: &str = "modified";

/// A mirror in a bucket. Cheap to clone.
#[derive(Clone)]
pub struct S3 {
    client: Client,
    location: Location,
}

impl S3 {
    /// The mirror at `location`. An `endpoint` of one's own is that of a store
    /// that speaks as S3 does; the bucket is named in the path there, since few
    /// such have a host name a bucket.
    pub fn new(config: &SdkConfig, location: Location, endpoint: Option<&str>) -> Self {
        // Adaptive: what is throttled is this one bucket, and so the client slows
        // down as a whole.
        let retry = RetryConfig::adaptive().with_max_attempts(ATTEMPTS);
        let mut builder = aws_sdk_s3::config::Builder::from(config).retry_config(retry);
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint_url(endpoint).force_path_style(true);
        }
        Self { client: Client::from_conf(builder.build()), location }
    }

    /// Whether the bucket is there and may be listed; the error says what to do.
    pub async fn check(&self) -> Result<(), StoreError> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(self.bucket())
            .prefix(self.location.full("_sync/"))
            .max_keys(1);
        request.send().await.map_err(|error| failed("list", self.location.to_string(), &error))?;
        Ok(())
    }

    fn bucket(&self) -> &str {
        self.location.bucket()
    }

    fn full(&self, key: &ObjectKey) -> String {
        self.location.full(key.as_str())
    }

    async fn delete_batch(&self, batch: &[ObjectKey]) -> Result<(), StoreError> {
        let first = batch.first().map(ToString::to_string).unwrap_or_default();
        let broken = |cause: String| StoreError::Failed {
            operation: "delete",
            key: first.clone(),
            cause,
            transient: false,
        };
        let identifiers = batch.iter().map(|key| ObjectIdentifier::builder().key(self.full(key)).build());
        let identifiers = identifiers.collect::<Result<_, _>>().map_err(|error| broken(error.to_string()))?;
        let delete = Delete::builder().quiet(true).set_objects(Some(identifiers)).build();
        let delete = delete.map_err(|error| broken(error.to_string()))?;
        let request = self.client.delete_objects().bucket(self.bucket()).delete(delete);
        let output = request.send().await.map_err(|error| failed("delete", first.clone(), &error))?;
        match output.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
            None => Ok(()),
            Some(error) => Err(StoreError::Failed {
                operation: "delete",
                key: error.key().unwrap_or_default().to_owned(),
                cause: format!(
                    "{}: {}",
                    error.code().unwrap_or_default(),
                    error.message().unwrap_or_default()
                ),
                transient: matches!(error.code(), Some("InternalError" | "SlowDown" | "ServiceUnavailable")),
            }),
        }
    }
}

#[async_trait]
impl Store for S3 {
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        let request = self.client.head_object().bucket(self.bucket()).key(self.full(key));
        match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(output) => Ok(Some(ObjectMeta {
                key: key.clone(),
                size: length(output.content_length()),
                modified: modified(output.metadata(), output.last_modified()),
                sha256: whole_sha256(output.checksum_sha256(), output.checksum_type()),
            })),
            Err(error) if is_absent(&Fault::of(&error)) => Ok(None),
            Err(error) => Err(failed("look up", key.to_string(), &error)),
        }
    }

    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Option<Reading>, StoreError> {
        // No header names a range without bytes; the whole is asked for, and not read.
        let is_empty = range.as_ref().is_some_and(Range::is_empty);
        let request = self.client.get_object().bucket(self.bucket()).key(self.full(key));
        let asked = range.as_ref().filter(|range| !range.is_empty());
        let request =
            request.set_range(asked.map(|range| format!("bytes={}-{}", range.start, range.end - 1)));
        let output = match request.send().await {
            Ok(output) => output,
            Err(error) if is_absent(&Fault::of(&error)) => return Ok(None),
            Err(error) => return Err(failed("get", key.to_string(), &error)),
        };
        // `bytes 0-9/100`
        let whole = output.content_range().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let meta = ObjectMeta {
            key: key.clone(),
            size: whole.unwrap_or_else(|| length(output.content_length())),
            modified: modified(output.metadata(), output.last_modified()),
            sha256: whole_sha256(output.checksum_sha256(), output.checksum_type()),
        };
        if range.is_some_and(|range| range.start > range.end || range.end > meta.size) {
            return Err(StoreError::Refused { key: key.to_string(), why: "the range lies outside of it" });
        }
        let version = Version(output.e_tag.unwrap_or_default());
        if is_empty {
            return Ok(Some(Reading { meta, version, body: stream::empty().boxed() }));
        }
        let name = key.to_string();
        let body = stream::try_unfold((output.body, name), |(mut body, name)| async move {
            match body.try_next().await {
                Ok(None) => Ok(None),
                Ok(Some(chunk)) => Ok(Some((chunk, (body, name)))),
                Err(error) => Err(StoreError::Failed {
                    operation: "get",
                    key: name,
                    cause: crate::aws::chain(&error),
                    transient: true,
                }),
            }
        });
        Ok(Some(Reading { meta, version, body: body.boxed() }))
    }

    async fn put(&self, key: &ObjectKey, body: Body, condition: Condition) -> Result<Version, StoreError> {
        let modified = match &body {
            Body::Dated(_, modified) => Some(format!("{modified:.0}")),
            Body::Plain(_) | Body::Verified(_) => None,
        };
        let bytes = check_promise(key, body)?;
        let digest = key.blob_digest().unwrap_or_else(|| Digest::of(&bytes));
        let Headers { content_type, cache_control } = Headers::of(key);
        let mut request = self
            .client
            .put_object()
            .bucket(self.bucket())
            .key(self.full(key))
            .content_type(content_type)
            .cache_control(cache_control)
            .set_metadata(modified.map(|modified| HashMap::from([(MODIFIED.to_owned(), modified)])))
            // S3 hashes what arrives, and refuses what hashes to anything else.
            .checksum_sha256(digest.to_base64())
            .body(bytes.into());
        match condition {
            Condition::Always => {}
            Condition::Absent => request = request.if_none_match("*"),
            Condition::Matches(version) => request = request.if_match(version.0),
        }
        // The checksum covers the body; a signature of it would be one more pass.
        match request.customize().disable_payload_signing().send().await {
            Ok(output) => Ok(Version(output.e_tag.unwrap_or_default())),
            Err(error) if is_conflict(&Fault::of(&error)) => Err(StoreError::Conflict { key: key.clone() }),
            Err(error) => Err(failed("put", key.to_string(), &error)),
        }
    }

    async fn begin(&self, key: &ObjectKey, size: u64, part_size: u64) -> Result<Box<dyn Upload>, StoreError> {
        if key.blob_digest().is_none() {
            return Err(StoreError::Refused { key: key.to_string(), why: "only bottles come in parts" });
        }
        let Headers { content_type, cache_control } = Headers::of(key);
        let request = self
            .client
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(self.full(key))
            .content_type(content_type)
            .cache_control(cache_control)
            .checksum_algorithm(ChecksumAlgorithm::Sha256);
        let output = request.send().await.map_err(|error| failed("begin", key.to_string(), &error))?;
        let id = output.upload_id.unwrap_or_default();
        Ok(Box::new(S3Upload::new(self.clone(), key.clone(), id, size, part_size)))
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<bool, StoreError> {
        let expected = check_copy(from, to)?;
        // A larger one is fetched.
        let Some(meta) = self.head(from).await?.filter(|meta| meta.size <= LARGEST_COPY) else {
            return Ok(false);
        };
        let request = self.copying(from, to);
        // What is wrong must be found before it is visible under another key.
        let request = match meta.sha256 {
            Some(actual) if actual == expected => request,
            Some(actual) => return Err(StoreError::WrongDigest { key: from.clone(), actual }),
            None => match self.read_through(from, expected).await? {
                Some(Version(version)) => request.copy_source_if_match(version),
                None => return Ok(false),
            },
        };
        self.copied(request, from, expected).await
    }

    async fn adopt(
        &self,
        from: &ObjectKey,
        version: &Version,
        to: &ObjectKey,
        proof: Verified,
    ) -> Result<bool, StoreError> {
        check_adoption(to, &proof)?;
        if proof.length() > LARGEST_COPY {
            return Ok(false);
        }
        let request = self.copying(from, to).copy_source_if_match(&version.0);
        self.copied(request, from, proof.digest()).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut found = Vec::new();
        let mut start = after.map(|key| self.full(key));
        while found.len() < limit {
            let page = MOST_KEYS.min(limit - found.len());
            let request = self
                .client
                .list_objects_v2()
                .bucket(self.bucket())
                .prefix(self.location.full(prefix))
                .set_start_after(start.clone())
                .max_keys(i32::try_from(page).unwrap_or(i32::MAX));
            let output = request.send().await.map_err(|error| failed("list", prefix.to_owned(), &error))?;
            start = output.contents().last().and_then(|object| object.key().map(str::to_owned));
            found.extend(output.contents().iter().filter_map(|object| {
                // What someone else put there under a name that is no key of ours is not ours.
                let key = self.location.strip(object.key()?)?.parse().ok()?;
                Some(ObjectMeta {
                    key,
                    size: length(object.size()),
                    modified: modified(None, object.last_modified()),
                    sha256: None,
                })
            }));
            if !output.is_truncated().unwrap_or(false) || start.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        check_deletable(keys)?;
        let batches: Vec<_> = keys.chunks(MOST_KEYS).map(|batch| self.delete_batch(batch).boxed()).collect();
        stream::iter(batches).buffer_unordered(REQUESTS_AT_ONCE).try_collect().await
    }

    async fn retag(&self, key: &ObjectKey, tags: &Tags) -> Result<bool, StoreError> {
        check_taggable(key)?;
        // S3 keeps a larger one's age, and would expire it by that: it stays as it is.
        match self.head(key).await? {
            None => return Ok(false),
            Some(meta) if meta.size > LARGEST_COPY => {
                return Err(StoreError::Refused {
                    key: key.to_string(),
                    why: "S3 writes no object of more than 5 GiB anew, and so it is kept",
                });
            }
            Some(_) => {}
        }
        let tagging = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(tags).finish();
        // One request: S3 takes an object's copy onto itself where its metadata are given anew.
        let mut request = self.copying(key, key);
        if !tags.is_empty() {
            request = request.tagging(tagging);
        }
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&Fault::of(&error)) => Ok(false),
            Err(error) => Err(failed("tag", key.to_string(), &error)),
        }
    }

    async fn tags(&self, key: &ObjectKey) -> Result<Tags, StoreError> {
        match self.client.get_object_tagging().bucket(self.bucket()).key(self.full(key)).send().await {
            Ok(output) => Ok(output.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect()),
            Err(error) if is_absent(&Fault::of(&error)) => Ok(Tags::new()),
            Err(error) => Err(failed("read the tags of", key.to_string(), &error)),
        }
    }

    async fn expire(&self, _: &[ObjectKey], _: Timestamp) -> Result<bool, StoreError> {
        // The bucket's lifecycle rule does it: nobody may delete a bottle.
        Ok(false)
    }
}

fn length(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

fn modified(metadata: Option<&HashMap<String, String>>, written: Option<&DateTime>) -> Timestamp {
    let told = metadata.and_then(|metadata| metadata.get(MODIFIED)?.parse().ok());
    let written = written.and_then(|at| Timestamp::from_nanosecond(at.as_nanos()).ok());
    told.or(written).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The sha256 of a whole object; one of its parts' checksums is none of its bytes.
fn whole_sha256(checksum: Option<&str>, of: Option<&ChecksumType>) -> Option<Digest> {
    let checksum = checksum.filter(|_| of != Some(&ChecksumType::Composite))?;
    Digest::from_base64(checksum)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use testbed::Emulator;

    use super::super::conformance;
    use super::*;

    async fn bucket(emulator: &Emulator, location: &str) -> S3 {
        let config = emulator.config();
        let store = S3::new(&config, location.parse().unwrap(), Some(&emulator.url()));
        store.client.create_bucket().bucket(store.bucket()).send().await.unwrap();
        store
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_keeps_the_store_contract() {
        let emulator = Emulator::start().unwrap();
        conformance::run(&bucket(&emulator, "s3://whole-bucket").await, false).await;
        conformance::run(&bucket(&emulator, "s3://shared-bucket/some/prefix").await, false).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn objects_have_their_headers_and_their_prefix() {
        let emulator = Emulator::start().unwrap();
        let store = bucket(&emulator, "s3://shared-bucket/below").await;
        let digest = Digest::of(b"bottle");
        let image = "v2/homebrew/core/openssl/3".parse().unwrap();
        let [from, to] = ["v2/homebrew/core/openssl/3", "v2/homebrew/core/copy"]
            .map(|image| ObjectKey::blob(&image.parse().unwrap(), &digest));
        store.put(&from, Bytes::from_static(b"bottle").into(), Condition::Always).await.unwrap();
        store.retag(&from, &Tags::from([("superseded".to_owned(), "true".to_owned())])).await.unwrap();
        assert!(store.copy(&from, &to).await.unwrap());
        assert!(store.tags(&to).await.unwrap().is_empty(), "a copy would expire with its source");

        let parts = store.begin(&ObjectKey::blob(&image, &Digest::of(b"part")), 4, 8 << 20).await.unwrap();
        parts.part(0, Bytes::from_static(b"part")).await.unwrap();
        let mut hasher = crate::bottle::Hasher::new();
        hasher.update(b"part");
        parts.complete(hasher.verify(Digest::of(b"part")).unwrap()).await.unwrap();

        for key in [&from, &to, &ObjectKey::blob(&image, &Digest::of(b"part"))] {
            let head = store.client.head_object().bucket("shared-bucket").key(format!("below/{key}"));
            let head = head.send().await.unwrap();
            let expected = Headers::of(key);
            assert_eq!(head.content_type(), Some(expected.content_type), "{key}");
            assert_eq!(head.cache_control(), Some(expected.cache_control), "{key}");
        }
    }

    /// Two keys of the bottle of these bytes, and a flat name.
    fn names_of(digest: &Digest) -> (ObjectKey, [ObjectKey; 2]) {
        let [from, to] = ["v2/homebrew/core/wget", "v2/example/tap/wget"]
            .map(|image| ObjectKey::blob(&image.parse().unwrap(), digest));
        (from, [to, "wget-1.0.all.bottle.tar.gz".parse().unwrap()])
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_damaged_bottle_without_a_checksum_is_copied_nowhere() {
        let emulator = Emulator::start().unwrap();
        let store = bucket(&emulator, "s3://copies").await;
        let (whole, other) = (Bytes::from_static(b"whole"), Bytes::from_static(b"other"));
        let (from, names) = names_of(&Digest::of(&whole));
        store.put(&from, whole.clone().into(), Condition::Always).await.unwrap();
        let [bottle, flat] = &names;
        assert!(store.copy(&from, flat).await.unwrap());
        // By someone who tells S3 no checksum that is of use here.
        let foreign =
            store.client.put_object().bucket("copies").key(from.as_str()).body(other.clone().into());
        foreign.send().await.unwrap();
        assert_eq!(store.head(&from).await.unwrap().unwrap().sha256, None);
        for to in &names {
            let error = store.copy(&from, to).await.unwrap_err();
            let is_wrong =
                matches!(&error, StoreError::WrongDigest { actual, .. } if *actual == Digest::of(&other));
            assert!(is_wrong, "{to}: {error}");
        }
        assert!(store.head(bottle).await.unwrap().is_none());
        assert_eq!(store.get(flat).await.unwrap().unwrap().body, whole);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_bottle_that_came_in_parts_is_copied_once_its_bytes_were_read() {
        const PART: usize = 5 << 20;
        let emulator = Emulator::start().unwrap();
        let store = bucket(&emulator, "s3://copies").await;
        let parts = [Bytes::from(vec![1; PART]), Bytes::from_static(b"the rest")];
        let mut hasher = crate::bottle::Hasher::new();
        for part in &parts {
            hasher.update(part);
        }
        let digest = Digest::of(&parts.concat());
        let (from, names) = names_of(&digest);
        let upload = store.begin(&from, parts.concat().len() as u64, PART as u64).await.unwrap();
        for (at, part) in (0..).zip(&parts) {
            upload.part(at, part.clone()).await.unwrap();
        }
        upload.complete(hasher.verify(digest).unwrap()).await.unwrap();
        assert_eq!(store.head(&from).await.unwrap().unwrap().sha256, None);
        for to in &names {
            assert!(store.copy(&from, to).await.unwrap(), "{to}");
            assert_eq!(store.get(to).await.unwrap().unwrap().body, parts.concat(), "{to}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_upload_that_fails_or_is_given_up_is_not_left_behind() {
        let emulator = Emulator::start().unwrap();
        let store = bucket(&emulator, "s3://uploads").await;
        let key = ObjectKey::blob(&"v2/x/y".parse().unwrap(), &Digest::of(b"whole"));
        let uploads = || async {
            let listed = store.client.list_multipart_uploads().bucket("uploads").send().await.unwrap();
            listed.uploads().len()
        };
        let aborted = store.begin(&key, 5, 8 << 20).await.unwrap();
        let dropped = store.begin(&key, 5, 8 << 20).await.unwrap();
        let incomplete = store.begin(&key, 5, 3).await.unwrap();
        assert_eq!(uploads().await, 3);
        aborted.abort().await.unwrap();
        aborted.abort().await.unwrap();
        drop(dropped);
        incomplete.part(0, Bytes::from_static(b"who")).await.unwrap();
        let mut hasher = crate::bottle::Hasher::new();
        hasher.update(b"whole");
        let proof = hasher.verify(Digest::of(b"whole")).unwrap();
        assert!(incomplete.complete(proof).await.is_err(), "a bottle without its last part was completed");
        for _ in 0..100 {
            if uploads().await == 0 {
                assert!(store.head(&key).await.unwrap().is_none());
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("uploads are left: {}", uploads().await);
    }

    #[tokio::test]
    async fn a_bucket_that_is_not_there_is_named_and_stops_the_work() {
        let emulator = Emulator::start().unwrap();
        let config = emulator.config();
        let store = S3::new(&config, "s3://no-such-bucket".parse().unwrap(), None);
        let error = store.check().await.unwrap_err();
        assert!(matches!(error, StoreError::Failed { transient: false, .. }), "{error}");
        assert!(error.to_string().contains("make the bucket"), "{error}");
        let put =
            store.put(&"_sync/x".parse().unwrap(), Bytes::new().into(), Condition::Always).await.unwrap_err();
        assert!(matches!(put, StoreError::Failed { transient: false, .. }), "{put}");
    }

    #[tokio::test]
    async fn a_store_that_asks_for_patience_gets_it_and_one_that_refuses_is_not_asked_again() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};

        use axum::extract::State;
        use axum::http::{StatusCode, Uri};

        async fn answer(State(asked): State<Arc<AtomicUsize>>, uri: Uri) -> (StatusCode, &'static str) {
            let nth = asked.fetch_add(1, Ordering::Relaxed);
            match uri.path().ends_with("denied") {
                true => {
                    (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
                }
                false if nth < 2 => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "<Error><Code>SlowDown</Code><Message>slower</Message></Error>",
                ),
                false => (StatusCode::OK, ""),
            }
        }

        let asked = Arc::new(AtomicUsize::new(0));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = crate::aws::patient_with(&url).await;
        let store = S3::new(&config, "s3://team-bottles".parse().unwrap(), Some(&url));
        let put = |key: &str| {
            let key: ObjectKey = key.parse().unwrap();
            let store = &store;
            async move { store.put(&key, Bytes::from_static(b"{}").into(), Condition::Always).await }
        };
        put("_sync/slow").await.unwrap();
        assert_eq!(asked.swap(0, Ordering::Relaxed), 3);
        let denied = put("_sync/denied").await.unwrap_err();
        assert!(matches!(denied, StoreError::Failed { transient: false, .. }), "{denied}");
        assert!(denied.to_string().contains("s3:PutObject"), "{denied}");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
