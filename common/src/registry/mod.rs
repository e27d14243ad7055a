//! The client of upstream: formulae.brew.sh and the OCI registry.
//!
//! It keeps the rules of politeness for everyone: one limit on requests, waits
//! that honour `Retry-After`, a fresh token asked for once, redirects resolved
//! anew for each attempt and only to allowed hosts, no Authorization on another
//! host than the registry's. Signed URLs never leave this module.

mod answer;
mod api;
mod count;
mod error;
mod index;
mod limit;
mod route;
mod token;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::bottle::{ImagePath, ImageTag, Origin};
use crate::retry::{Policy, Retryable};

pub use answer::Download;
pub(crate) use answer::retry_after;
pub use api::{ApiAnswer, CatalogueAnswer, LARGEST_API_FILE, Validators};
pub use count::{Counts, StatusClass};
pub use error::Error;
pub use index::{Described, ImageIndex, IndexEntry, LARGEST_INDEX, MEDIA_TYPE};
pub use limit::RequestLimit;
pub(crate) use route::is_loopback;
pub use route::{AllowedHost, DEFAULT_HOSTS, InvalidRoute, Rewrite, Routes};

/// How to talk to upstream.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Where requests may go.
    pub routes: Routes,
    /// The shared limit, in requests a second.
    pub requests_per_second: u32,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long upstream may send nothing, in the middle of a body too.
    pub stall_timeout: Duration,
    /// How failed requests are tried again in place.
    pub retry: Policy,
}

impl UpstreamSettings {
    /// The defaults for these routes.
    pub fn new(routes: Routes) -> Self {
        Self {
            routes,
            requests_per_second: 100,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            retry: Policy {
                first_wait: Duration::from_millis(500),
                longest_wait: Duration::from_secs(30),
                budget: Duration::from_secs(45),
            },
        }
    }
}

/// The client. Cheap to share behind an `Arc`.
pub struct Upstream {
    /// By way of the proxy that the environment names, if it does.
    clients: Clients,
    /// For this machine itself, which no proxy reaches.
    loopback: Clients,
    routes: Routes,
    limit: RequestLimit,
    tokens: token::Tokens,
    retry: Policy,
    counters: count::Counters,
}

struct Clients {
    /// For the registry and its blobs: bytes as they are.
    plain: reqwest::Client,
    /// For the catalogue: compressed on the way.
    compressed: reqwest::Client,
}

/// The body of a bottle, or of a part of it.
pub enum Opened {
    /// The bytes that were asked for.
    Part(Download),
    /// The whole bottle: ranges are refused, or none was asked for.
    Whole(Download),
}

/// A range of a bottle's bytes, `start..end`, of `total`.
#[derive(Debug, Clone, Copy)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// The whole bottle's size.
    pub total: u64,
}

/// One request's headers, and what it is for.
#[derive(Default)]
struct Ask {
    headers: HeaderMap,
    /// A catalogue or another API file: compressed on the way.
    catalogue: bool,
    /// Carry a token while the URL is on the origin that was first asked.
    authorized: bool,
}

/// Redirects that one request may take: ghcr.io takes one.
const MOST_HOPS: usize = 5;

impl Upstream {
    /// A client; the error is a TLS configuration that can't be used.
    pub fn new(settings: UpstreamSettings) -> Result<Self, Error> {
        let build = |compressed: bool, proxied: bool| {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("bottles/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(settings.connect_timeout)
                .read_timeout(settings.stall_timeout)
                .gzip(compressed);
            // Parallel transfers over one HTTP/2 connection would share one
            // flow-control window and one TCP loss recovery.
            let builder = if compressed { builder } else { builder.http1_only() };
            let builder = if proxied { builder } else { builder.no_proxy() };
            builder.build().map_err(|error| Error::transport("the HTTP client", error))
        };
        Ok(Self {
            clients: Clients { plain: build(false, true)?, compressed: build(true, true)? },
            loopback: Clients { plain: build(false, false)?, compressed: build(true, false)? },
            limit: RequestLimit::new(settings.requests_per_second),
            routes: settings.routes,
            tokens: token::Tokens::default(),
            retry: settings.retry,
            counters: count::Counters::default(),
        })
    }

    /// Reads the image index under a tag.
    pub async fn index(
        &self,
        origin: &Origin,
        image: &ImagePath,
        tag: &ImageTag,
    ) -> Result<ImageIndex, Error> {
        let url = parse(&image.index_url(origin, tag))?;
        let mut ask = Ask { authorized: true, ..Ask::default() };
        ask.headers.insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
        let what = answer::describe(&url);
        let bytes = self
            .retrying(|| async {
                let response = self.ask(Method::GET, &url, &ask).await?;
                read_at_most(response, LARGEST_INDEX, &what).await
            })
            .await?;
        ImageIndex::parse(bytes).map_err(|why| Error::MalformedIndex { what, why })
    }

    /// The size of a bottle in bytes, where its image index doesn't say.
    pub async fn size(&self, url: &Url) -> Result<u64, Error> {
        let ask = Ask { authorized: is_registry(url), ..Ask::default() };
        self.retrying(|| async {
            let response = self.ask(Method::HEAD, url, &ask).await?;
            let what = answer::describe(url);
            answer::content_length(response.headers())
                .ok_or_else(|| Error::Unexpected { what, status: response.status().as_u16() })
        })
        .await
    }

    /// Opens a bottle, or a range of it, once: whoever reads the body decides
    /// about another attempt, which resolves the redirect anew.
    pub async fn open(&self, url: &Url, range: Option<ByteRange>) -> Result<Opened, Error> {
        let mut ask = Ask { authorized: is_registry(url), ..Ask::default() };
        let what = answer::describe(url);
        if let Some(ByteRange { start, end, .. }) = range {
            let value = format!("bytes={start}-{}", end.saturating_sub(1));
            set(&mut ask.headers, RANGE, Some(&value));
        }
        let mut response = self.ask(Method::GET, url, &ask).await?;
        if let Some(range) = range {
            let refused = response.status() == StatusCode::RANGE_NOT_SATISFIABLE
                || (response.status() == StatusCode::PARTIAL_CONTENT
                    && !answer::is_range(response.headers(), range));
            if response.status() == StatusCode::PARTIAL_CONTENT && !refused {
                return Ok(Opened::Part(Download::new(response, what)));
            }
            if refused {
                ask.headers.remove(RANGE);
                response = self.ask(Method::GET, url, &ask).await?;
            }
        }
        if response.status() == StatusCode::OK {
            return Ok(Opened::Whole(Download::new(response, what)));
        }
        Err(Error::Unexpected { what, status: response.status().as_u16() })
    }

    /// Runs an operation by this client's retry policy.
    pub async fn retrying<T, E, F>(&self, operation: impl FnMut() -> F) -> Result<T, E>
    where
        E: Retryable + std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        self.retry
            .run(operation, |error: &E, wait| {
                self.counters.retried();
                tracing::warn!(upstream.error = %error, wait_ms = wait.as_millis(), "trying upstream again");
            })
            .await
    }

    /// What was asked and answered so far.
    pub fn counts(&self) -> Counts {
        self.counters.now()
    }

    /// One attempt: follows redirects, and fetches a fresh token once.
    async fn ask(&self, method: Method, url: &Url, ask: &Ask) -> Result<Response, Error> {
        let home = Origin::of(url);
        let mut at = url.clone();
        let mut asked_for_token = false;
        for _ in 0..MOST_HOPS {
            let what = answer::describe(&at);
            let on_home = ask.authorized && Origin::of(&at) == home;
            let response = self.send(method.clone(), &at, ask, on_home, &what).await?;
            let status = response.status();
            if status == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            if status.is_redirection() {
                at = answer::location(&at, &response, &what)?;
                continue;
            }
            if on_home && matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                let challenge = response
                    .headers()
                    .get(reqwest::header::WWW_AUTHENTICATE)
                    .and_then(|header| token::challenge(header.to_str().ok()?));
                match challenge {
                    Some(challenge) if !asked_for_token => {
                        asked_for_token = true;
                        let token = self.fetch_token(&challenge).await?;
                        self.tokens.keep(at.path(), token);
                        continue;
                    }
                    _ => return Err(Error::Unauthorized { what, status: status.as_u16() }),
                }
            }
            if let Some(wait) = answer::pause(&response) {
                self.limit.pause(wait);
            }
            return answer::check(response, what);
        }
        Err(Error::BadRedirect { what: answer::describe(url), why: "it goes round in circles" })
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        ask: &Ask,
        on_home: bool,
        what: &str,
    ) -> Result<Response, Error> {
        let target = self.routes.resolve(url, ask.catalogue)?;
        let clients = if is_loopback(&target) { &self.loopback } else { &self.clients };
        let client = if ask.catalogue { &clients.compressed } else { &clients.plain };
        let mut request = client.request(method, target).headers(ask.headers.clone());
        if on_home {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", self.tokens.for_path(url.path())))
                .map_err(|_| Error::Unauthorized { what: what.to_owned(), status: 401 })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        self.limit.admit().await;
        let outcome = request.send().await;
        self.counters.answered(outcome.as_ref().ok().map(Response::status));
        outcome.map_err(|error| Error::transport(what, error))
    }

    async fn fetch_token(&self, url: &Url) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let what = answer::describe(url);
        let response = self.send(Method::GET, url, &Ask::default(), false, &what).await?;
        let response = answer::check(response, what.clone())?;
        let bytes = read_at_most(response, 64 << 10, &what).await?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|_| Error::Unauthorized { what: what.clone(), status: 200 })?;
        answer.token.or(answer.access_token).ok_or(Error::Unauthorized { what, status: 200 })
    }
}

/// Whether a token may be asked for: a host of plain files gets none.
fn is_registry(url: &Url) -> bool {
    url.path().starts_with("/v2/")
}

/// Parses a URL that is to be fetched.
pub fn parse(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|why| Error::BadUrl { url: url.to_owned(), why: why.to_string() })
}

async fn read_at_most(mut response: Response, limit: usize, what: &str) -> Result<Bytes, Error> {
    let announced = answer::content_length(response.headers());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Error::transport(what, error))? {
        if body.len() + chunk.len() > limit {
            return Err(Error::TooLarge { what: what.to_owned(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    match announced {
        Some(expected) if expected != body.len() as u64 => Err(Error::Transport {
            what: what.to_owned(),
            cause: format!("{} of {expected} announced bytes came", body.len()),
        }),
        _ => Ok(body.freeze()),
    }
}

fn set(headers: &mut HeaderMap, name: reqwest::header::HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}
