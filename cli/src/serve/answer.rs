//! What a request is answered with.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use common::bottle::ObjectKey;
use common::retry::{Retryable as _, Verdict};
use common::store::{Headers, Reading, StoreError};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::log::Entry;
use super::site::Found;

/// A status, headers, and a body of a length that is known.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// Of the body, in bytes; `None` where the status has none.
    length: Option<u64>,
    body: BoxStream<'static, Result<Bytes, Broken>>,
}

/// A body that can't be gone on with: the connection is broken off, so that the
/// client doesn't take what it has for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the body ends before its length")]
struct Broken;

impl Answer {
    /// A short text, which no cache keeps: what is missing may be there tomorrow.
    pub(super) fn text(status: StatusCode, text: &str) -> Self {
        let text = Bytes::from(format!("{text}\n"));
        let length = text.len() as u64;
        let body = stream::once(async { Ok(text) }).boxed();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        Self { status, headers: HeaderMap::new(), length: Some(length), body }
            .with(header::CONTENT_TYPE, plain)
            .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    pub(super) fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "the mirror does not hold it")
    }

    /// What a store's failure is told as; the client gets no more of it.
    pub(super) fn failure(error: &StoreError) -> Self {
        match error.verdict() {
            Verdict::Retry { .. } => Self::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the mirror's store does not answer; try again later",
            ),
            Verdict::GiveUp => Self::text(StatusCode::BAD_GATEWAY, "the mirror's store can't be read"),
        }
    }

    /// The object is as the client has it.
    pub(super) fn not_modified(found: &Found) -> Self {
        Self::of(StatusCode::NOT_MODIFIED, found, None, stream::empty().boxed())
    }

    /// What is known of an object, for a client that asked for no more.
    pub(super) fn head(found: &Found) -> Self {
        Self::of(StatusCode::OK, found, Some(found.size), stream::empty().boxed())
    }

    /// All of an object.
    pub(super) async fn whole(reading: Reading) -> Result<Self, StoreError> {
        let found = Found::of(&reading);
        let body = begun(reading, found.size).await?;
        Ok(Self::of(StatusCode::OK, &found, Some(found.size), body))
    }

    /// The bytes from `start` of an object, `length` in all.
    pub(super) async fn part(
        found: &Found,
        reading: Reading,
        start: u64,
        length: u64,
    ) -> Result<Self, StoreError> {
        let body = begun(reading, length).await?;
        let range = format!("bytes {start}-{}/{}", start + length - 1, found.size);
        Ok(Self::of(StatusCode::PARTIAL_CONTENT, found, Some(length), body)
            .with_text(header::CONTENT_RANGE, &range))
    }

    /// Bytes that are not there were asked for.
    pub(super) fn outside(found: &Found) -> Self {
        Self::text(StatusCode::RANGE_NOT_SATISFIABLE, "the range lies outside of it")
            .with_text(header::CONTENT_RANGE, &format!("bytes */{}", found.size))
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The answer as it is sent. Its line is written when its body is over.
    pub(super) fn into_response(self, mut entry: Entry) -> Response {
        entry.answered(self.status);
        let left = self.length.unwrap_or(0);
        let body = stream::try_unfold((self.body, left, entry), |(mut body, left, mut entry)| async move {
            if left == 0 {
                return Ok(None);
            }
            let chunk = body.try_next().await?.ok_or(Broken)?;
            let left = left.checked_sub(chunk.len() as u64).ok_or(Broken)?;
            entry.sent(chunk.len());
            Ok::<_, Broken>(Some((chunk, (body, left, entry))))
        });
        let mut response = Response::new(Body::from_stream(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(length) = self.length {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        response
    }

    fn of(
        status: StatusCode,
        found: &Found,
        length: Option<u64>,
        body: BoxStream<'static, Result<Bytes, Broken>>,
    ) -> Self {
        let Headers { content_type, cache_control } = Headers::of(&found.key);
        let answer = Self { status, headers: HeaderMap::new(), length, body }
            .with(header::CACHE_CONTROL, HeaderValue::from_static(cache_control))
            .with_text(header::ETAG, found.validators.etag())
            .with_text(header::LAST_MODIFIED, &found.validators.last_modified());
        if status == StatusCode::NOT_MODIFIED {
            return answer;
        }
        answer
            .with(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
            .with(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
    }

    /// A value that is made here, of printable ASCII.
    fn with_text(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.with(name, value),
            Err(_) => self,
        }
    }
}

/// The body of `length` bytes, of which the first are there: a store that fails
/// before them can still be told of.
async fn begun(
    reading: Reading,
    length: u64,
) -> Result<BoxStream<'static, Result<Bytes, Broken>>, StoreError> {
    let key = reading.meta.key;
    let mut body = reading.body;
    if length == 0 {
        return Ok(stream::empty().boxed());
    }
    let first = body.try_next().await?;
    let rest = body.map_err(move |error| broken_off(&key, &error));
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

fn broken_off(key: &ObjectKey, error: &StoreError) -> Broken {
    tracing::warn!(object.key = %key, %error, "the store failed in the middle of an object: the answer is broken off");
    Broken
}
