//! Installing: an index, an entry, a bottle, and what is checked of each.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::api::Package;
use super::http::Request;
use super::{ANONYMOUS, Brew, BrewError, Generation};
use crate::escape::escape;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A bottle that came whole and right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The formula's name.
    pub formula: String,
    /// The bottle's own tag, which may be `all` or that of an older macOS.
    pub tag: String,
    /// Its digest in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// What was installed before it because it needs it, in that order. Those have none
    /// themselves: theirs are here too.
    pub dependencies: Vec<Installed>,
}

/// By which names bottles are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `HOMEBREW_ARTIFACT_DOMAIN`: as the registry has them.
    Registry,
    /// `HOMEBREW_BOTTLE_DOMAIN`: flat files at the root.
    Flat,
}

/// A formula with a bottle for this client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) package: &'a Package,
    pub(super) tag: &'a str,
    pub(super) sha256: &'a str,
}

impl Brew {
    /// Installs a formula, after what it needs: of each the index, then the bottle.
    pub async fn install(&self, formula: &str) -> Result<Installed, BrewError> {
        self.install_from(formula, Layout::Registry).await
    }

    /// Installs a formula the older way, with `HOMEBREW_BOTTLE_DOMAIN` set to the mirror,
    /// after what it needs: of each the flat file (HEAD, and GET twice), then the index
    /// below the root, with a token. A client of the older generation asks for no index.
    pub async fn install_flat(&self, formula: &str) -> Result<Installed, BrewError> {
        self.install_from(formula, Layout::Flat).await
    }

    /// Fetches the Ruby that brew itself runs on, by the digest that stands in its source.
    pub async fn fetch_portable_ruby(&self, sha256: &str) -> Result<Vec<u8>, BrewError> {
        let path = format!("/v2/homebrew/core/portable-ruby/blobs/sha256:{sha256}");
        let bytes = self.bottle("portable-ruby", &path, self.token()).await?;
        check("portable-ruby", sha256, &bytes)?;
        Ok(bytes)
    }

    /// Reads the API as [`update`](Self::update) does, then fetches index and bottle of
    /// each formula in it that has a bottle for this client and that `wanted` names, and
    /// says how many there were. Of those nothing may be missing, whenever it is called.
    pub async fn check_all(&mut self, wanted: impl Fn(&str) -> bool) -> Result<usize, BrewError> {
        self.check_all_of(wanted, Layout::Registry).await
    }

    /// The same in the way of [`install_flat`](Self::install_flat).
    pub async fn check_all_flat(&mut self, wanted: impl Fn(&str) -> bool) -> Result<usize, BrewError> {
        self.check_all_of(wanted, Layout::Flat).await
    }

    async fn check_all_of(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        layout: Layout,
    ) -> Result<usize, BrewError> {
        self.update().await?;
        let mut checked = 0;
        for name in self.formulae().iter().filter(|name| wanted(name)) {
            self.fetch(self.wanted(name)?, layout).await?;
            checked += 1;
        }
        Ok(checked)
    }

    async fn install_from(&self, formula: &str, layout: Layout) -> Result<Installed, BrewError> {
        let mut order = Vec::new();
        self.visit(formula, &mut HashSet::new(), &mut order)?;
        let mut dependencies = Vec::with_capacity(order.len());
        for wanted in order {
            dependencies.push(self.fetch(wanted, layout).await?);
        }
        // The formula itself comes after all that it needs.
        let own = dependencies.pop();
        let own = own.ok_or_else(|| self.no_bottle(formula))?;
        Ok(Installed { dependencies, ..own })
    }

    /// Puts what a formula needs, then the formula, in order; each once.
    fn visit<'a>(
        &'a self,
        name: &str,
        seen: &mut HashSet<&'a str>,
        order: &mut Vec<Wanted<'a>>,
    ) -> Result<(), BrewError> {
        let wanted = self.wanted(name)?;
        if seen.insert(wanted.name) {
            for dependency in &wanted.package.dependencies {
                self.visit(dependency, seen, order)?;
            }
            order.push(wanted);
        }
        Ok(())
    }

    fn wanted(&self, name: &str) -> Result<Wanted<'_>, BrewError> {
        let found = self.packages.get_key_value(name).and_then(|(name, package)| {
            let (tag, sha256) = package.bottle.as_ref()?;
            Some(Wanted { name, package, tag, sha256 })
        });
        found.ok_or_else(|| self.no_bottle(name))
    }

    fn no_bottle(&self, formula: &str) -> BrewError {
        BrewError::NoBottle { formula: formula.to_owned(), tag: self.tag.clone() }
    }

    async fn fetch(&self, wanted: Wanted<'_>, layout: Layout) -> Result<Installed, BrewError> {
        let image = wanted.image();
        let (announced, bytes) = match layout {
            Layout::Registry => {
                let below = format!("/v2/homebrew/core/{image}");
                let announced = self.index(wanted, &below, self.token()).await?;
                let path = format!("{below}/blobs/sha256:{}", wanted.sha256);
                (announced, self.bottle(wanted.name, &path, None).await?)
            }
            Layout::Flat => {
                let path = format!("/{}", escape(&wanted.flat_file()));
                let bytes = self.file(wanted.name, &path).await?;
                let announced = match self.generation {
                    Generation::Current => self.index(wanted, &format!("/{image}"), Some(ANONYMOUS)).await?,
                    Generation::Older => None,
                };
                (announced, bytes)
            }
        };
        wanted.received(announced, &bytes)
    }

    /// A bottle as a file of a plain host.
    pub(super) async fn file(&self, formula: &str, path: &str) -> Result<Vec<u8>, BrewError> {
        self.ask_bottle("HEAD", formula, path, None).await?;
        // Where it leads to is one request, and the download another.
        self.bottle(formula, path, None).await?;
        self.bottle(formula, path, None).await
    }

    /// Reads the index of an image and checks the entry of the wanted bottle. The bottle's
    /// size, if the entry says it.
    pub(super) async fn index(
        &self,
        wanted: Wanted<'_>,
        image: &str,
        token: Option<&str>,
    ) -> Result<Option<u64>, BrewError> {
        let formula = wanted.name.to_owned();
        let path = format!("{image}/manifests/{}", wanted.image_tag());
        let mut headers = vec![("Accept", INDEX)];
        headers.extend(token.map(|token| ("Authorization", token)));
        let reply = self.ask(Request { method: "GET", path: &path, headers: &headers }).await?;
        if reply.status != 200 {
            return Err(BrewError::NoIndex { formula, path, status: reply.status });
        }
        let index: Index = serde_json::from_slice(&reply.body)
            .map_err(|error| BrewError::BadIndex { formula, reason: error.to_string() })?;
        wanted.entry(index)
    }

    pub(super) async fn bottle(
        &self,
        formula: &str,
        path: &str,
        token: Option<&str>,
    ) -> Result<Vec<u8>, BrewError> {
        self.ask_bottle("GET", formula, path, token).await
    }

    async fn ask_bottle(
        &self,
        method: &'static str,
        formula: &str,
        path: &str,
        token: Option<&str>,
    ) -> Result<Vec<u8>, BrewError> {
        let headers: Vec<_> = token.map(|token| ("Authorization", token)).into_iter().collect();
        let reply = self.ask(Request { method, path, headers: &headers }).await?;
        if reply.status != 200 {
            let (formula, path) = (formula.to_owned(), path.to_owned());
            return Err(BrewError::NoBlob { formula, path, status: reply.status });
        }
        Ok(reply.body)
    }
}

impl Wanted<'_> {
    /// The image below its tap: `@` becomes `/` and `+` becomes `x`.
    fn image(&self) -> String {
        self.name.replace('@', "/").replace('+', "x")
    }

    /// `pkg_version[-rebuild]`.
    fn image_tag(&self) -> String {
        let rebuild = self.rebuild().map(|rebuild| format!("-{rebuild}")).unwrap_or_default();
        format!("{}{rebuild}", self.package.version)
    }

    /// The entry's name in the index: `pkg_version.tag[.rebuild]`.
    fn reference(&self) -> String {
        let rebuild = self.rebuild().map(|rebuild| format!(".{rebuild}")).unwrap_or_default();
        format!("{}.{}{rebuild}", self.package.version, self.tag)
    }

    /// `name-pkg_version.tag.bottle[.rebuild].tar.gz`, not escaped.
    fn flat_file(&self) -> String {
        let rebuild = self.rebuild().map(|rebuild| format!(".{rebuild}")).unwrap_or_default();
        format!("{}-{}.{}.bottle{rebuild}.tar.gz", self.name, self.package.version, self.tag)
    }

    /// The bottle that came, if it is the one that was wanted, and as long as it was said.
    pub(super) fn received(self, announced: Option<u64>, bytes: &[u8]) -> Result<Installed, BrewError> {
        let got = bytes.len() as u64;
        if let Some(expected) = announced.filter(|expected| *expected != got) {
            return Err(BrewError::WrongLength { formula: self.name.to_owned(), expected, got });
        }
        check(self.name, self.sha256, bytes)?;
        Ok(Installed {
            formula: self.name.to_owned(),
            tag: self.tag.to_owned(),
            sha256: self.sha256.to_owned(),
            bytes: got,
            dependencies: Vec::new(),
        })
    }

    fn rebuild(&self) -> Option<u32> {
        Some(self.package.rebuild).filter(|rebuild| *rebuild > 0)
    }

    /// Finds the bottle's entry and checks its tab. The bottle's size, if it is said.
    fn entry(&self, index: Index) -> Result<Option<u64>, BrewError> {
        let (formula, reference) = (self.name.to_owned(), self.reference());
        let mut all = index.manifests.into_iter().map(|manifest| manifest.annotations);
        let entry = all.find(|entry| {
            entry.digest.as_deref() == Some(self.sha256)
                && entry.reference.as_deref() == Some(reference.as_str())
        });
        let Some(entry) = entry else {
            return Err(BrewError::NoEntry { formula, digest: self.sha256.to_owned(), reference });
        };
        let bad = |reason: String| BrewError::BadTab { formula: formula.clone(), reason };
        let tab = entry.tab.ok_or_else(|| bad("it is missing".to_owned()))?;
        serde_json::from_str::<Tab>(&tab).map_err(|error| bad(error.to_string()))?;
        match entry.size.as_deref().map(str::parse) {
            Some(Ok(size)) => Ok(Some(size)),
            Some(Err(_)) => {
                let reason = "a sh.brew.bottle.size is no number".to_owned();
                Err(BrewError::BadIndex { formula, reason })
            }
            None => Ok(None),
        }
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Manifest>,
}

#[derive(Deserialize)]
struct Manifest {
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "sh.brew.bottle.digest")]
    digest: Option<String>,
    #[serde(rename = "sh.brew.bottle.size")]
    size: Option<String>,
    #[serde(rename = "org.opencontainers.image.ref.name")]
    reference: Option<String>,
    #[serde(rename = "sh.brew.tab")]
    tab: Option<String>,
}

/// What brew takes from a tab before it pours.
#[derive(Deserialize)]
struct Tab {
    #[serde(rename = "homebrew_version")]
    _homebrew_version: String,
    #[serde(rename = "runtime_dependencies")]
    _runtime_dependencies: Vec<Value>,
}

fn check(formula: &str, expected: &str, bytes: &[u8]) -> Result<(), BrewError> {
    let got = hex::encode(Sha256::digest(bytes));
    if got == expected {
        return Ok(());
    }
    let (formula, expected) = (formula.to_owned(), expected.to_owned());
    Err(BrewError::WrongDigest { formula, expected, got })
}
