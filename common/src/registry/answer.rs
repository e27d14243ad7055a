//! Reading an answer: its status, its headers, its body.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use url::Url;

use super::{ByteRange, Error};

/// A body on its way.
pub struct Download {
    response: Response,
    what: String,
    announced: Option<u64>,
}

impl Download {
    pub(super) fn new(response: Response, what: String) -> Self {
        let announced = content_length(response.headers());
        Self { response, what, announced }
    }

    /// `Content-Length` in bytes, where there is one.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Path and host of what is downloaded, fit for a log.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.response.chunk().await.map_err(|error| Error::transport(&self.what, error))
    }
}

/// Path and host of a URL: the query of a redirect's target is its signature.
pub(super) fn describe(url: &Url) -> String {
    format!("{} on {}", url.path(), url.host_str().unwrap_or("nowhere"))
}

/// Passes an answer that can be used, and turns the others into errors.
pub(super) fn check(response: Response, what: String) -> Result<Response, Error> {
    let status = response.status();
    let code = status.as_u16();
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error::NotFound { what, status: code }),
        // A redirect's target that refuses its own signature: it ran out, and
        // the next attempt gets a new one.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Error::Status { what, status: code, retry_after: None })
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Err(Error::Status { what, status: code, retry_after: retry_after(response.headers()) })
        }
        status if status.is_server_error() => {
            Err(Error::Status { what, status: code, retry_after: retry_after(response.headers()) })
        }
        status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
        _ => Err(Error::Unexpected { what, status: code }),
    }
}

/// How long everyone should hold back after this answer.
pub(super) fn pause(response: &Response) -> Option<Duration> {
    let asked = retry_after(response.headers());
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Some(asked.unwrap_or(Duration::from_secs(1))),
        StatusCode::SERVICE_UNAVAILABLE => asked,
        _ => None,
    }
}

/// Where a redirect leads.
pub(super) fn location(from: &Url, response: &Response, what: &str) -> Result<Url, Error> {
    let bad = |why| Error::BadRedirect { what: what.to_owned(), why };
    let target = response.headers().get(LOCATION).ok_or_else(|| bad("it has no Location"))?;
    let target = target.to_str().map_err(|_| bad("its Location is not text"))?;
    from.join(target).map_err(|_| bad("its Location is no URL"))
}

/// Whether `Content-Range` is the range that was asked for.
pub(super) fn is_range(headers: &HeaderMap, range: ByteRange) -> bool {
    let Some(value) = text(headers, CONTENT_RANGE).and_then(|value| value.strip_prefix("bytes ")) else {
        return false;
    };
    let Some((span, total)) = value.split_once('/') else { return false };
    let Some((first, last)) = span.split_once('-') else { return false };
    first.parse() == Ok(range.start)
        && last.parse() == Ok(range.end - 1)
        && (total == "*" || total.parse() == Ok(range.total))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, CONTENT_LENGTH)?.parse().ok()
}

/// `Retry-After`, in seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let when = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(crate::clock::since(Timestamp::now(), when))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        [(name, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_range_must_be_the_one_asked_for() {
        let range = ByteRange { start: 10, end: 20, total: 50 };
        let fits = |value: &str| is_range(&headers(CONTENT_RANGE, value), range);
        assert!(fits("bytes 10-19/50") && fits("bytes 10-19/*"));
        for value in ["bytes 10-20/50", "bytes 0-9/50", "bytes 10-19/51", "10-19/50", "bytes */50", ""] {
            assert!(!fits(value), "{value:?} was taken");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(&headers(RETRY_AFTER, "7")), Some(Duration::from_secs(7)));
        let date = (jiff::Zoned::now() + Duration::from_secs(100)).with_time_zone(jiff::tz::TimeZone::UTC);
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let wait = retry_after(&headers(RETRY_AFTER, &date)).unwrap();
        assert!(wait > Duration::from_secs(95) && wait <= Duration::from_secs(100), "{wait:?}");
        assert_eq!(retry_after(&headers(RETRY_AFTER, "Mon, 01 Jan 2001 00:00:00 GMT")), Some(Duration::ZERO));
        assert_eq!(retry_after(&headers(RETRY_AFTER, "soon")), None);
    }

    #[test]
    fn a_description_never_shows_a_signature() {
        let url = Url::parse("https://h.example/ghcr1/blobs/sha256:00?se=1&sig=SECRET").unwrap();
        assert_eq!(describe(&url), "/ghcr1/blobs/sha256:00 on h.example");
    }
}
