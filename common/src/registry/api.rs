//! What formulae.brew.sh serves: the catalogue, read as it streams by, and the API
//! files, verbatim.

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{ETAG, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::bottle::{Digest, Hasher};
use crate::catalogue::{Catalogue, Reader};

use super::{Ask, Error, Upstream, answer, read_at_most, set};

/// The largest API file that is taken, in bytes. One is in memory at a time; the
/// largest real ones have some 40 MB.
pub const LARGEST_API_FILE: usize = 256 << 20;

/// What tells whether a file changed; upstream's own words, verbatim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// The answer to a conditional request for the catalogue.
pub enum CatalogueAnswer {
    /// It is the one that the validators stand for.
    Unchanged,
    /// It is another.
    Fresh {
        /// What it says.
        catalogue: Catalogue,
        /// What to send next time.
        validators: Validators,
        /// The sha256 of its bytes.
        sha256: Digest,
    },
}

/// The answer to a request for an API file.
pub enum ApiAnswer {
    /// It is the one that the validators stand for.
    Unchanged,
    /// Upstream doesn't have it.
    Missing,
    /// It is another.
    Fresh {
        /// Its bytes, verbatim.
        bytes: Bytes,
        /// What to send next time.
        validators: Validators,
    },
}

impl Validators {
    fn of(response: &Response) -> Self {
        let text = |name: HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        Self { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    /// Whether there is nothing to be sent.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// `Last-Modified` as a time.
    pub fn modified(&self) -> Option<Timestamp> {
        let date = self.last_modified.as_deref()?;
        jiff::fmt::rfc2822::parse(date).ok().map(|date| date.timestamp())
    }

    fn ask(known: Option<&Self>) -> Ask {
        let mut ask = Ask { catalogue: true, ..Ask::default() };
        if let Some(known) = known {
            set(&mut ask.headers, IF_NONE_MATCH, known.etag.as_deref());
            set(&mut ask.headers, IF_MODIFIED_SINCE, known.last_modified.as_deref());
        }
        ask
    }
}

impl Upstream {
    /// Reads a catalogue, unless it is the one that `known` stands for.
    pub async fn catalogue(&self, url: &Url, known: Option<&Validators>) -> Result<CatalogueAnswer, Error> {
        let ask = Validators::ask(known);
        let what = answer::describe(url);
        self.retrying(|| async {
            let mut response = self.ask(Method::GET, url, &ask).await?;
            if response.status() == StatusCode::NOT_MODIFIED {
                return Ok(CatalogueAnswer::Unchanged);
            }
            let validators = Validators::of(&response);
            let (mut reader, mut hasher) = (Reader::new(), Hasher::new());
            while let Some(chunk) = response.chunk().await.map_err(|error| Error::transport(&what, error))? {
                hasher.update(&chunk);
                reader.push(&chunk)?;
            }
            let (catalogue, sha256) = (reader.finish()?, hasher.finish());
            Ok(CatalogueAnswer::Fresh { catalogue, validators, sha256 })
        })
        .await
    }

    /// Reads a file whole that somebody named. Who is refused it once is refused it again:
    /// nobody signs its URL anew.
    pub async fn document(&self, url: &Url) -> Result<Bytes, Error> {
        let ask = Validators::ask(None);
        let what = answer::describe(url);
        self.retrying(|| async {
            match self.ask(Method::GET, url, &ask).await {
                Ok(response) => read_at_most(response, LARGEST_API_FILE, &what).await,
                Err(Error::Status { what, status: status @ (401 | 403), .. }) => {
                    Err(Error::Unexpected { what, status })
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Reads an API file whole, unless it is the one that `known` stands for.
    pub async fn api_file(&self, url: &Url, known: Option<&Validators>) -> Result<ApiAnswer, Error> {
        let ask = Validators::ask(known);
        let what = answer::describe(url);
        let answer = self.retrying(|| async {
            let response = self.ask(Method::GET, url, &ask).await?;
            if response.status() == StatusCode::NOT_MODIFIED {
                return Ok(ApiAnswer::Unchanged);
            }
            let validators = Validators::of(&response);
            let bytes = read_at_most(response, LARGEST_API_FILE, &what).await?;
            Ok(ApiAnswer::Fresh { bytes, validators })
        });
        match answer.await {
            Err(Error::NotFound { .. }) => Ok(ApiAnswer::Missing),
            answer => answer,
        }
    }
}
