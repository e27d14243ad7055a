//! The API step: which files are read, and what they say for one platform.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::http::{Reply, Request};
use super::{Brew, BrewError, Generation};
use crate::platform::{candidates, runtime_dependencies};

/// What brew offers, though it is glad of anything.
const ENCODINGS: &str = "deflate, gzip, br, zstd";

/// How the files of the API were found: their paths, in the order they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Read anew.
    pub fresh: Vec<String>,
    /// 304: the copy at hand is good.
    pub unchanged: Vec<String>,
    /// 403 or 404, which a store gives for what it doesn't have. Only files that no
    /// formula needs: casks and tap migrations.
    pub missing: Vec<String>,
}

/// A formula, as far as one platform is concerned.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// With its revision.
    pub(crate) version: String,
    pub(crate) rebuild: u32,
    /// The bottle's own tag and its digest; `None` if this platform has no bottle.
    pub(crate) bottle: Option<(String, String)>,
    pub(crate) dependencies: Vec<String>,
}

impl Brew {
    /// Reads the files of the API, or learns that the copies at hand are still good, as
    /// every command of brew does first; on a [`fresh`](Self::fresh) machine, once Ruby is
    /// there. What a failed one has read is forgotten.
    pub async fn update(&mut self) -> Result<Update, BrewError> {
        if let Some(ruby) = &self.ruby {
            self.fetch_portable_ruby(ruby).await?;
            self.ruby = None;
        }
        let mut update = Update::default();
        let (mut copies, mut packages) = (self.copies.clone(), None);
        for (place, path) in self.files().into_iter().enumerate() {
            // The first of them is what formulae are installed by.
            let needed = place == 0;
            let reply = self.ask_api(&path).await?;
            match reply.status {
                200 => {
                    let date = reply.header("Last-Modified").map(str::to_owned);
                    let payload = payload(&path, &decode(&path, reply)?)?;
                    if needed {
                        packages = Some(self.packages(&path, &payload)?);
                    } else {
                        parse::<Value>(&path, &payload)?;
                    }
                    copies.insert(path.clone(), date);
                    update.fresh.push(path);
                }
                304 if copies.contains_key(&path) => update.unchanged.push(path),
                403 | 404 if !needed => update.missing.push(path),
                status => return Err(BrewError::NoApi { path, status }),
            }
        }
        self.copies = copies;
        if let Some(packages) = packages {
            self.packages = packages;
        }
        Ok(update)
    }

    /// The names of the formulae with a bottle for this client, by the API as it was read
    /// last; sorted.
    pub fn formulae(&self) -> Vec<String> {
        let with_bottle = self.packages.iter().filter(|(_, package)| package.bottle.is_some());
        with_bottle.map(|(name, _)| name.clone()).collect()
    }

    fn files(&self) -> Vec<String> {
        match self.generation {
            Generation::Current => vec![format!("/api/internal/packages.{}.jws.json", self.tag)],
            Generation::Older => ["formula", "cask", "formula_tap_migrations", "cask_tap_migrations"]
                .map(|name| format!("/api/{name}.jws.json"))
                .to_vec(),
        }
    }

    async fn ask_api(&self, path: &str) -> Result<Reply, BrewError> {
        let mut headers = vec![("Accept-Encoding", ENCODINGS)];
        if let Some(Some(date)) = self.copies.get(path) {
            headers.push(("If-Modified-Since", date));
        }
        self.ask(Request { method: "GET", path, headers: &headers }).await
    }

    fn packages(&self, path: &str, payload: &str) -> Result<BTreeMap<String, Package>, BrewError> {
        Ok(match self.generation {
            Generation::Current => {
                let Packages { formulae } = parse(path, payload)?;
                formulae.into_iter().map(|(name, ready)| (name, ready.into())).collect()
            }
            Generation::Older => {
                let all: Vec<AnyPlatform> = parse(path, payload)?;
                all.into_iter().map(|one| one.on(&self.tag)).collect()
            }
        })
    }
}

/// The payload of a file for one platform.
#[derive(Deserialize)]
struct Packages {
    formulae: BTreeMap<String, OnePlatform>,
}

#[derive(Deserialize)]
struct OnePlatform {
    pkg_version: String,
    rebuild: u32,
    tag: Option<String>,
    sha256: Option<String>,
    dependencies: Vec<String>,
}

/// An element of the payload of the file for all platforms.
#[derive(Deserialize)]
struct AnyPlatform {
    name: String,
    pkg_version: String,
    rebuild: u32,
    sha256: BTreeMap<String, String>,
    dependencies: Vec<String>,
    uses_from_macos: Vec<Value>,
    uses_from_macos_bounds: Vec<Value>,
    variations: BTreeMap<String, Vec<String>>,
}

impl From<OnePlatform> for Package {
    fn from(ready: OnePlatform) -> Self {
        Self {
            version: ready.pkg_version,
            rebuild: ready.rebuild,
            bottle: ready.tag.zip(ready.sha256),
            dependencies: ready.dependencies,
        }
    }
}

impl AnyPlatform {
    /// Its name, and what there is of it for the clients of a tag.
    fn on(self, tag: &str) -> (String, Package) {
        let declared = self.variations.get(tag).unwrap_or(&self.dependencies);
        let needed = runtime_dependencies(declared, &self.uses_from_macos, &self.uses_from_macos_bounds, tag);
        let package = Package {
            dependencies: needed.map(str::to_owned).collect(),
            bottle: candidates(tag).find_map(|tag| {
                let digest = self.sha256.get(&tag)?.clone();
                Some((tag, digest))
            }),
            version: self.pkg_version,
            rebuild: self.rebuild,
        };
        (self.name, package)
    }
}

/// The body as it was before it was compressed for the way.
fn decode(path: &str, reply: Reply) -> Result<Vec<u8>, BrewError> {
    let read = match reply.header("Content-Encoding").unwrap_or("identity") {
        "identity" => Ok(reply.body),
        "gzip" => {
            let mut body = Vec::new();
            MultiGzDecoder::new(reply.body.as_slice()).read_to_end(&mut body).map(|_| body)
        }
        other => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this client was not taught the Content-Encoding {other}"),
        )),
    };
    read.map_err(|source| BrewError::Transport { path: path.to_owned(), source })
}

#[derive(Deserialize)]
struct Envelope {
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    signature: String,
}

/// What was signed, if it still is what was signed.
fn payload(path: &str, body: &[u8]) -> Result<String, BrewError> {
    let signed = serde_json::from_slice::<Envelope>(body).ok().filter(|envelope| {
        let digest = hex::encode(Sha256::digest(&envelope.payload));
        envelope.signatures.iter().any(|one| one.signature == digest)
    });
    let envelope = signed.ok_or_else(|| BrewError::BadSignature { path: path.to_owned() })?;
    Ok(envelope.payload)
}

fn parse<T: DeserializeOwned>(path: &str, payload: &str) -> Result<T, BrewError> {
    serde_json::from_str(payload)
        .map_err(|error| BrewError::BadPayload { path: path.to_owned(), reason: error.to_string() })
}
