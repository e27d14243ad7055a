//! `bottles serve`: a mirror over HTTP, for brew to install from.
//!
//! It reads the mirror and nothing else: there is no TLS, no list of who may read,
//! and nothing is written. What is answered is what S3 would answer, as far as brew
//! and the caches between ask for it.

mod answer;
mod descriptors;
mod listen;
mod log;
mod path;
mod patient;
mod range;
mod site;
mod validators;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use common::bottle::ObjectKey;
use common::store::{Store as _, StoreError};
use tokio::net::TcpListener;

use crate::args::{ServeOptions, StoreOption};
use crate::destination::Destination;
use crate::output::{Exit, Usage, line};
use crate::{place, stop};

use answer::Answer;
use listen::Limits;
use log::AccessLog;
use path::NoKey;
use range::Asked;
use site::{PARTS, Site};

pub(crate) async fn run(options: ServeOptions) -> anyhow::Result<Exit> {
    let ServeOptions { place, listen, quiet, store } = options;
    let site = open(&place, &store).await?;
    let stop = stop::on_signals()?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("{listen} can't be listened on; name another with --listen"))?;
    let address = listener.local_addr()?;
    if !address.ip().to_canonical().is_loopback() {
        // A reader that went away is no error.
        let _ = writeln!(
            std::io::stderr(),
            "bottles: warning: whoever reaches {address} can read the mirror: there is no TLS and no password"
        );
    }
    line(format_args!("Serving {place} on http://{address}"));
    let log = if quiet { AccessLog::none() } else { AccessLog::stdout() };
    let limits = Limits {
        request: Duration::from_mins(1),
        write: Duration::from_mins(1),
        grace: Duration::from_secs(10),
        connections: descriptors::connections(),
    };
    listen::serve(listener, router(site, log), limits, stop).await;
    Ok(Exit::Done)
}

/// Answers every request for a mirror's objects. The address of the client is taken
/// from a [`ConnectInfo`] among the request's extensions.
pub(crate) fn router(site: Site, log: AccessLog) -> Router {
    Router::new().fallback(handle).with_state((site, log))
}

/// A mirror that must be there.
async fn open(place: &Destination, options: &StoreOption) -> anyhow::Result<Site> {
    let site = match place {
        Destination::Folder(root) => site::is_mirror(root).then(|| Site::folder(root)),
        Destination::Bucket(location) => {
            let store = place::bucket(location, options).await;
            store.check().await.with_context(|| format!("{location} can't be used"))?;
            let mut is_mirror = false;
            for part in PARTS {
                is_mirror = is_mirror || !store.list(part, None, 1).await?.is_empty();
            }
            is_mirror.then(|| Site::store(Arc::new(store)))
        }
    };
    let none = || {
        Usage(format!(
            "{place} holds no mirror: there is no api/, v2/ or _sync/ in it; `bottles sync --to {place}` makes one"
        ))
    };
    Ok(site.ok_or_else(none)?)
}

async fn handle(
    State((site, log)): State<(Site, AccessLog)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let entry = log.begin(peer.ip(), &request);
    let (parts, _) = request.into_parts();
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let refused = Answer::text(StatusCode::METHOD_NOT_ALLOWED, "a mirror is only read: GET and HEAD");
        return refused.with(header::ALLOW, HeaderValue::from_static("GET, HEAD")).into_response(entry);
    }
    let answer = match path::key_of(parts.uri.path()) {
        Ok(key) => answer(&site, &key, &parts.method, &parts.headers).await.unwrap_or_else(|error| {
            tracing::warn!(object.key = %key, %error, "an object can't be read");
            Answer::failure(&error)
        }),
        Err(NoKey::NotServed) => Answer::not_found(),
        Err(NoKey::Malformed) => Answer::text(StatusCode::BAD_REQUEST, "the path can't be decoded"),
    };
    answer.into_response(entry)
}

async fn answer(
    site: &Site,
    key: &ObjectKey,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Answer, StoreError> {
    let asks_for_more = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::RANGE];
    if *method == Method::HEAD || asks_for_more.iter().any(|name| headers.contains_key(name)) {
        let Some(found) = site.look(key).await? else { return Ok(Answer::not_found()) };
        if found.validators.is_known_by(headers) {
            return Ok(Answer::not_modified(&found));
        }
        if *method == Method::HEAD {
            return Ok(Answer::head(&found));
        }
        if let Some(range) = validators::text(headers, header::RANGE)
            && found.validators.allow_part(headers)
        {
            match range::asked(range, found.size) {
                Asked::Whole => {}
                Asked::Outside => return Ok(Answer::outside(&found)),
                Asked::Part(range) => {
                    let (start, length) = (range.start, range.end - range.start);
                    if let Some(reading) = site.part(&found, range).await? {
                        return Answer::part(&found, reading, start, length).await;
                    }
                    // It changed just now: a part of the new state was not asked for.
                }
            }
        }
    }
    match site.read(key).await? {
        Some(reading) => Answer::whole(reading).await,
        None => Ok(Answer::not_found()),
    }
}
