//! Answers: a status, headers and an object, with the faults of a body applied.

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::json;

use super::body::{PIECE, Sending, Source, Stop};
use super::server::Call;
use crate::fault::Fault;
use crate::log::Ticket;

const GARBAGE: &str = "<!DOCTYPE html>\n<html><body><h1>Please sign in to this network</h1></body></html>\n";

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(HeaderName, String)>,
    source: Source,
    /// The value of the `Range` header, if ranges are known here.
    range: Option<String>,
    fault: Option<Fault>,
}

impl Answer {
    /// 200 and the whole object.
    pub(crate) fn object(source: Source, content_type: &str) -> Self {
        Self { source, ..Self::empty(200) }.with(header::CONTENT_TYPE, content_type)
    }

    /// A status without a body.
    pub(crate) fn empty(status: u16) -> Self {
        let source = Source::File(Bytes::new());
        Self { status, headers: Vec::new(), source, range: None, fault: None }
    }

    /// An error as a registry words it.
    pub(crate) fn failure(status: u16, retry_after: Option<&str>) -> Self {
        let (code, message) = match status {
            400 => ("BAD_REQUEST", "bad request"),
            401 => ("UNAUTHORIZED", "authentication required"),
            403 => ("DENIED", "requested access to the resource is denied"),
            404 => ("NOT_FOUND", "not found"),
            405 => ("UNSUPPORTED", "the operation is unsupported"),
            429 => ("TOOMANYREQUESTS", "retry-after: 1.365ms, allowed: 44000/minute"),
            _ => ("UNKNOWN", "unknown error"),
        };
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        let answer = Self::object(Source::File(body.into()), "application/json");
        let answer = Self { status, ..answer };
        match retry_after {
            Some(value) => answer.with(header::RETRY_AFTER, value),
            None => answer,
        }
    }

    /// 307.
    pub(crate) fn redirect(location: &str) -> Self {
        Self::empty(307).with(header::LOCATION, location)
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Answers with a part if the client asked for one.
    pub(crate) fn with_range(mut self, range: Option<&str>) -> Self {
        self.range = range.map(str::to_owned);
        self.with(header::ACCEPT_RANGES, "bytes")
    }

    /// The fault to put on the body.
    pub(crate) fn with_fault(mut self, fault: Option<Fault>) -> Self {
        self.fault = fault;
        self
    }

    /// The answer as it goes out.
    pub(crate) fn into_response(mut self, call: &Call, mut ticket: Ticket) -> Response {
        let mut total = self.source.len();
        match &self.fault {
            Some(Fault::Short { bytes }) => total = total.min(*bytes),
            Some(Fault::Long { extra }) => total += extra,
            Some(Fault::NoRange) => self.range = None,
            Some(Fault::Garbage) => {
                self.source = Source::File(Bytes::from_static(GARBAGE.as_bytes()));
                self.range = None;
                self.headers = vec![(header::CONTENT_TYPE, "text/html".to_owned())];
                total = self.source.len();
            }
            _ => {}
        }
        let part = match &self.range {
            Some(_) if self.fault == Some(Fault::RangeRefused) => Part::Outside,
            Some(range) => Part::parse(range, total),
            None => Part::Whole,
        };
        let (start, end) = match part {
            Part::Whole => (0, total),
            Part::Bytes(start, end) => {
                self.status = 206;
                let value = match self.fault {
                    Some(Fault::WrongContentRange) => format!("bytes {}-{end}/{}", start + 1, total + 1),
                    _ => format!("bytes {start}-{}/{total}", end - 1),
                };
                self.headers.push((header::CONTENT_RANGE, value));
                (start, end)
            }
            Part::Outside => {
                self.status = 416;
                self.headers.push((header::CONTENT_RANGE, format!("bytes */{total}")));
                (0, 0)
            }
        };

        ticket.status(self.status);
        let mut response = Response::default();
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A 304 has no body, and a length would be that of the body it spares.
        if self.status != 304 {
            self.headers.push((header::CONTENT_LENGTH, (end - start).to_string()));
        }
        for (name, value) in self.headers.drain(..) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        if call.method == Method::HEAD || start == end {
            ticket.finish();
        } else {
            *response.body_mut() = self.body(start, end, ticket);
        }
        response
    }

    fn body(self, start: u64, end: u64, mut ticket: Ticket) -> Body {
        let length = end - start;
        let place = |after: u64| start + after.min(length - 1);
        let stop = match self.fault {
            Some(Fault::Stall { after_bytes, r#for }) => Some((place(after_bytes), Stop::Pause(r#for))),
            Some(Fault::Truncate { after_bytes }) => Some((place(after_bytes), Stop::Close)),
            _ => None,
        };
        let corrupt = (self.fault == Some(Fault::Corrupt)).then_some(start + length / 2);
        if let (Source::File(bytes), None) = (&self.source, &self.fault)
            && length <= PIECE
        {
            ticket.sent(length);
            ticket.finish();
            return Body::from(bytes.clone());
        }
        let source = self.source;
        Body::from_stream(Sending { source, at: start, end, corrupt, stop, waiting: None, ticket })
    }
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Everything; also for what isn't understood, and for several ranges at once.
    Whole,
    /// First byte and one past the last.
    Bytes(u64, u64),
    /// Nothing that there is.
    Outside,
}

impl Part {
    fn parse(header: &str, total: u64) -> Self {
        let Some((first, last)) = header.strip_prefix("bytes=").and_then(|rest| rest.split_once('-')) else {
            return Self::Whole;
        };
        let part = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(total)),
            (Ok(first), Err(_)) if last.is_empty() => (first, total),
            (Err(_), Ok(count)) if first.is_empty() => (total.saturating_sub(count), total),
            _ => return Self::Whole,
        };
        if part.0 < part.1 { Self::Bytes(part.0, part.1) } else { Self::Outside }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_defines_them() {
        assert_eq!(Part::parse("bytes=0-9", 100), Part::Bytes(0, 10));
        assert_eq!(Part::parse("bytes=90-", 100), Part::Bytes(90, 100));
        assert_eq!(Part::parse("bytes=90-500", 100), Part::Bytes(90, 100));
        assert_eq!(Part::parse("bytes=-5", 100), Part::Bytes(95, 100));
        assert_eq!(Part::parse("bytes=-500", 100), Part::Bytes(0, 100));
        assert_eq!(Part::parse("bytes=100-", 100), Part::Outside);
        assert_eq!(Part::parse("bytes=-0", 100), Part::Outside);
        for text in ["bytes=5-4", "bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b"] {
            assert_eq!(Part::parse(text, 100), Part::Whole, "{text}");
        }
    }
}
