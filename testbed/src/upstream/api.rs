//! The API's files, and the testbed's own addresses beside them.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::body::Source;
use super::expected;
use super::server::Call;
use super::state::Shared;
use crate::fault::{Fault, Times};
use crate::log::Entry;

/// Where a testbed in a process of its own is controlled. Requests to it are not
/// logged and meet no faults.
pub(crate) const CONTROL: &str = "/_testbed/";

/// A fault's JSON is far below this.
const CONTROL_BODY: usize = 64 * 1024;

pub(crate) async fn answer(shared: &Shared, call: &Call) -> Answer {
    let gzip = accepts_gzip(call);
    let published = shared.published();
    let last_modified = published.last_modified();
    let path = call.path.clone();
    // The first request for a file makes it, which can take a while.
    let made = tokio::task::spawn_blocking(move || {
        let file = published.file(&path)?;
        let body = if gzip { file.gzip() } else { &file.body };
        Some((body.clone(), file.etag.clone()))
    });
    let Ok(Some((body, etag))) = made.await else {
        return Answer::failure(404, None);
    };
    let validators = |answer: Answer| {
        // The compressed form has other bytes, so the tag of both can only be weak.
        let weak = if gzip { "W/" } else { "" };
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&last_modified);
        answer
            .with(header::ETAG, format!("{weak}\"{etag}\""))
            .with(header::LAST_MODIFIED, date.unwrap_or_default())
            .with(header::VARY, "Accept-Encoding")
            .with(header::CACHE_CONTROL, "max-age=600")
    };
    if unchanged(call, &etag, last_modified) {
        return validators(Answer::empty(304));
    }
    let fault = call.body_fault(&shared.faults, false, false);
    let answer = validators(Answer::object(Source::File(body), "application/json; charset=utf-8"));
    let answer = if gzip { answer.with(header::CONTENT_ENCODING, "gzip") } else { answer };
    answer.with_fault(fault)
}

fn accepts_gzip(call: &Call) -> bool {
    let codings = call.header(header::ACCEPT_ENCODING).unwrap_or_default().split(',');
    codings.map(str::trim).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(quality.trim(), "q=0" | "q=0.0")
    })
}

/// The date counts only where no tag was sent.
fn unchanged(call: &Call, etag: &str, last_modified: Timestamp) -> bool {
    if let Some(tags) = call.header(header::IF_NONE_MATCH) {
        let strip = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        return tags.split(',').any(|tag| tag.trim() == "*" || strip(tag) == etag);
    }
    let since = call.header(header::IF_MODIFIED_SINCE);
    let since = since.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
    since.is_some_and(|since| last_modified <= since)
}

#[derive(Deserialize)]
struct Rule {
    pattern: String,
    fault: Fault,
    #[serde(default = "always")]
    times: Times,
}

fn always() -> Times {
    Times::Always
}

/// Serves the addresses below [`CONTROL`].
pub(crate) async fn control(shared: &Arc<Shared>, method: &Method, path: &str, body: Body) -> Response {
    let name = path.strip_prefix(CONTROL).unwrap_or_default();
    match (method.as_str(), name) {
        ("POST", "faults") => {
            let body = to_bytes(body, CONTROL_BODY).await.unwrap_or_default();
            match serde_json::from_slice::<Rule>(&body) {
                Ok(Rule { pattern, fault, times }) => {
                    shared.faults.set(&pattern, fault, times);
                    json_response(StatusCode::OK, &json!({"set": pattern}))
                }
                Err(error) => {
                    let body = json!({"error": error.to_string()});
                    json_response(StatusCode::BAD_REQUEST, &body)
                }
            }
        }
        ("DELETE", "faults") => {
            shared.faults.clear();
            json_response(StatusCode::OK, &json!({"cleared": true}))
        }
        ("GET", "log") => json_response(StatusCode::OK, &log(shared)),
        ("GET", "expected") => {
            json_response(StatusCode::OK, &json!(expected::of_core(&shared.published(), false)))
        }
        _ => json_response(StatusCode::NOT_FOUND, &json!({"error": "no such address"})),
    }
}

fn log(shared: &Shared) -> Value {
    let entry = |entry: &Entry| {
        let since_start = entry.at.saturating_duration_since(shared.started);
        json!({
            "server": entry.server,
            "method": entry.method,
            "path": entry.path,
            "range": entry.range,
            "had_authorization": entry.had_authorization,
            "status": entry.status,
            "at_ms": u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX),
            "bytes_sent": entry.bytes_sent,
        })
    };
    json!({
        "entries": shared.log.entries().iter().map(entry).collect::<Vec<_>>(),
        "violations": shared.log.violations(),
        "max_in_flight": shared.log.max_in_flight(),
    })
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
