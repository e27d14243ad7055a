//! Where a formula's bottles live in an OCI registry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use url::Url;

use super::{Digest, FormulaName, InvalidName, serde_as_text};

/// Scheme, host and port of a server: `https://ghcr.io`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// The origin of a URL.
    pub fn of(url: &Url) -> Self {
        Self(url.origin().ascii_serialization().into())
    }

    /// `scheme://host[:port]`, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| InvalidName::new("origin", text, why);
        let url = Url::parse(text).map_err(|_| refuse("it takes scheme://host[:port]"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("its scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("it holds a user name or password"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it takes no path, query or fragment"));
        }
        Ok(Self::of(&url))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(Origin);

/// A catalogue's `root_url`: on an OCI registry, `https://ghcr.io/v2/homebrew/core`,
/// or a folder of flat files, `https://bottles.example.com/tools`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RootUrl {
    origin: Origin,
    /// What keys begin with.
    path: Arc<str>,
    /// Where the files are, and below which folder of the mirror; `None` on a registry.
    files: Option<Folders>,
}

/// The folders of flat files: upstream's, and the mirror's.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Folders {
    url: Arc<str>,
    here: Arc<str>,
}

/// Below this are the bottles of plain file hosts: no registry's path begins so.
const FILES: &str = "v2/_files";

impl RootUrl {
    /// The registry.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the keys of its bottles begin with, without a slash at the end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is a folder of flat files and no registry.
    pub fn is_files(&self) -> bool {
        self.files.is_some()
    }

    /// The URL of a file there.
    pub fn file_url(&self, file: &str) -> String {
        let folder = self.files.as_ref().map_or("", |files| &files.url);
        let mut escaped = String::with_capacity(file.len());
        for c in file.chars() {
            match c {
                '@' => escaped.push_str("%40"),
                '+' => escaped.push_str("%2B"),
                c => escaped.push(c),
            }
        }
        format!("{folder}/{escaped}")
    }

    /// The key of the mirror's own copy of a file there, under its flat name; `None`
    /// on a registry.
    pub fn flat_key(&self, file: &str) -> Option<String> {
        Some(format!("{}/{file}", self.files.as_ref()?.here))
    }

    /// Where the bottles of `formula` live under this root.
    pub fn image(&self, formula: &FormulaName) -> ImagePath {
        // github_packages.rb, `image_formula_name`.
        let image = formula.short().replace('@', "/").replace('+', "x");
        ImagePath(format!("{}/{image}", self.path).into())
    }
}

impl FromStr for RootUrl {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| InvalidName::new("root URL", text, why);
        let url = Url::parse(text).map_err(|_| refuse("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refuse("it takes http or https and a host"));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if url.query().is_some() || url.fragment().is_some() || has_user || text.contains('%') {
            return Err(refuse("it takes no user, query, fragment or escapes"));
        }
        let path = url.path().trim_matches('/');
        let origin = Origin::of(&url);
        if path == "v2" || path.starts_with("v2/") {
            check_segments(path).map_err(refuse)?;
            return Ok(Self { origin, path: path.into(), files: None });
        }
        // A port's colon is in no registry's path.
        let host = origin.as_str().rsplit("//").next().unwrap_or_default().replace(':', "-");
        let below = if path.is_empty() { host } else { format!("{host}/{path}") };
        check_segments(&below).map_err(refuse)?;
        let url = if path.is_empty() { origin.to_string() } else { format!("{origin}/{path}") };
        let files = Folders { url: url.into(), here: format!("taps/{below}").into() };
        Ok(Self { origin, path: format!("{FILES}/{below}").into(), files: Some(files) })
    }
}

/// A formula's repository without its host: `v2/homebrew/core/openssl/3`.
///
/// It is also the prefix of the formula's keys in the mirror.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(Arc<str>);

impl ImagePath {
    /// The path, without a leading or trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its bottles are homebrew/core's, which clients find under flat names at
    /// the root too.
    pub fn is_core(&self) -> bool {
        self.0.starts_with("v2/homebrew/core/")
    }

    /// The URL of a bottle in the registry at `origin`.
    pub fn blob_url(&self, origin: &Origin, digest: &Digest) -> String {
        format!("{origin}/{self}/blobs/sha256:{digest}")
    }

    /// The URL of the image index under `tag` in the registry at `origin`.
    pub fn index_url(&self, origin: &Origin, tag: &ImageTag) -> String {
        format!("{origin}/{self}/manifests/{tag}")
    }
}

impl FromStr for ImagePath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| InvalidName::new("image path", text, why);
        if !text.starts_with("v2/") {
            return Err(refuse("it begins with v2/"));
        }
        check_segments(text).map_err(refuse)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(ImagePath);

/// The tag of an image index: `pkg_version[-rebuild]`, as in `3.6.0_1-2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageTag(Arc<str>);

impl ImageTag {
    /// The tag of a formula's version, revision and bottle rebuild.
    pub fn new(version: &str, revision: u32, rebuild: u32) -> Result<Self, InvalidName> {
        let revision = if revision == 0 { String::new() } else { format!("_{revision}") };
        let rebuild = if rebuild == 0 { String::new() } else { format!("-{rebuild}") };
        format!("{version}{revision}{rebuild}").parse()
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageTag {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // The OCI distribution specification's own pattern, which brew checks too.
        let refuse = |why| Err(InvalidName::new("image tag", text, why));
        if text.is_empty() || text.len() > 128 {
            return refuse("it takes 1 to 128 characters");
        }
        if text.starts_with(['.', '-']) {
            return refuse("it begins with a letter, a digit or _");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return refuse("it holds only letters, digits and . _ -");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(ImageTag);

/// Refuses segments that no registry path has and that a key must not have.
fn check_segments(path: &str) -> Result<(), &'static str> {
    for segment in path.split('/') {
        if segment.is_empty() || segment.bytes().all(|b| b == b'.') {
            return Err("it has an empty or dotted part");
        }
        if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err("it holds only letters, digits and . _ - /");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(root: &str, formula: &str) -> String {
        root.parse::<RootUrl>().unwrap().image(&formula.parse().unwrap()).to_string()
    }

    #[test]
    fn an_image_is_named_as_brew_names_it() {
        let core = "https://ghcr.io/v2/homebrew/core";
        assert_eq!(image(core, "foo@1.2"), "v2/homebrew/core/foo/1.2");
        assert_eq!(image(core, "bar++"), "v2/homebrew/core/barxx");
        assert_eq!(image(core, "openssl@3"), "v2/homebrew/core/openssl/3");
        assert_eq!(
            image("https://ghcr.io/v2/brewsci/bio/", "brewsci/bio/meme@4.11.2"),
            "v2/brewsci/bio/meme/4.11.2"
        );
    }

    #[test]
    fn an_image_tag_carries_revision_and_rebuild_only_when_they_are_not_zero() {
        for (version, revision, rebuild, tag) in
            [("1.2", 0, 0, "1.2"), ("1.2", 1, 0, "1.2_1"), ("1.2", 0, 3, "1.2-3"), ("1.2", 1, 3, "1.2_1-3")]
        {
            assert_eq!(ImageTag::new(version, revision, rebuild).unwrap().as_str(), tag);
        }
    }

    #[test]
    fn an_invalid_image_tag_is_refused() {
        for tag in ["", "-1", ".1", "1 2", "1/2", "1+2", "..", "1:2", &"1".repeat(129)] {
            assert!(tag.parse::<ImageTag>().is_err(), "{tag:?} was taken");
        }
        assert!("1".repeat(128).parse::<ImageTag>().is_ok());
    }

    #[test]
    fn a_folder_of_files_is_a_root_too() {
        let root: RootUrl = "http://127.0.0.1:8080/tools/".parse().unwrap();
        assert!(root.is_files());
        let name = "example/tools/foo@1.2".parse().unwrap();
        assert_eq!(root.image(&name).as_str(), "v2/_files/127.0.0.1-8080/tools/foo/1.2");
        let file = "foo@1.2-3.all.bottle.tar.gz";
        assert_eq!(root.file_url(file), "http://127.0.0.1:8080/tools/foo%401.2-3.all.bottle.tar.gz");
        assert_eq!(root.flat_key(file).unwrap(), "taps/127.0.0.1-8080/tools/foo@1.2-3.all.bottle.tar.gz");
        assert_eq!("https://h.example".parse::<RootUrl>().unwrap().path(), "v2/_files/h.example");
    }

    #[test]
    fn a_root_that_can_hold_no_bottles_is_refused() {
        for root in [
            "",
            "ghcr.io/v2/x",
            "ftp://ghcr.io/v2/x",
            "https://example.com/bottles/../x y",
            "https://u:p@ghcr.io/v2/x",
            "https://ghcr.io/v2/a//b",
            "https://ghcr.io/v2/%2e%2e/x",
            "https://ghcr.io/v2/x?y",
        ] {
            assert!(root.parse::<RootUrl>().is_err(), "{root:?} was taken");
        }
    }
}
