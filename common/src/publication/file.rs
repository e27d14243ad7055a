//! Which API files there are, and who reads them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::bottle::{BottleTag, InvalidName, ObjectKey, serde_as_text};

/// The path of an API file below `api/`: `internal/packages.arm64_tahoe.jws.json`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiPath(Arc<str>);

/// Who has to be complete for a file to be published.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One client platform, whose file it is.
    Client(BottleTag),
    /// Every client platform: the file names the bottles of all.
    AllClients,
    /// Any of them: the file names no bottle.
    NoBottles,
}

/// The catalogue's own path.
const CATALOGUE: &str = "formula.json";

const PACKAGES: (&str, &str) = ("internal/packages.", ".jws.json");

/// What names the bottles of all platforms: older clients read the first, mirrors of
/// this one the second.
const ALL_CLIENTS: [&str; 2] = ["formula.jws.json", CATALOGUE];

/// What names no bottle.
const NO_BOTTLES: [&str; 3] =
    ["cask.jws.json", "cask_tap_migrations.jws.json", "formula_tap_migrations.jws.json"];

impl ApiPath {
    /// The files that these clients read; the catalogue is the last of them.
    pub fn all<'a>(clients: impl IntoIterator<Item = &'a BottleTag>) -> Vec<Self> {
        let packages = clients.into_iter().map(|tag| format!("{}{tag}{}", PACKAGES.0, PACKAGES.1));
        let others = NO_BOTTLES.iter().chain(&ALL_CLIENTS).map(|path| (*path).to_owned());
        packages.chain(others).map(|path| Self(path.into())).collect()
    }

    /// The path below `api/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The catalogue, which plans are made from.
    pub fn catalogue() -> Self {
        Self(CATALOGUE.into())
    }

    /// Whether it is the catalogue, which plans are made from.
    pub fn is_catalogue(&self) -> bool {
        &*self.0 == CATALOGUE
    }

    /// Who reads it.
    pub fn scope(&self) -> Scope {
        let tag = self.0.strip_prefix(PACKAGES.0).and_then(|rest| rest.strip_suffix(PACKAGES.1));
        match tag.and_then(|tag| tag.parse().ok()) {
            Some(tag) => Scope::Client(tag),
            None if ALL_CLIENTS.contains(&&*self.0) => Scope::AllClients,
            None => Scope::NoBottles,
        }
    }

    /// Where clients find it.
    pub fn key(&self) -> Result<ObjectKey, InvalidName> {
        ObjectKey::api(&self.0)
    }
}

impl FromStr for ApiPath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        ObjectKey::api(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(ApiPath);

impl FromStr for Scope {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "all-clients" => Ok(Self::AllClients),
            "no-bottles" => Ok(Self::NoBottles),
            tag => tag.parse().map(Self::Client),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(tag) => tag.fmt(f),
            Self::AllClients => f.write_str("all-clients"),
            Self::NoBottles => f.write_str("no-bottles"),
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(Scope);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_the_scope_of_what_it_names() {
        let clients: Vec<BottleTag> =
            ["arm64_tahoe", "x86_64_linux"].map(|tag| tag.parse().unwrap()).to_vec();
        let all: Vec<_> =
            ApiPath::all(&clients).iter().map(|path| format!("{path} {}", path.scope())).collect();
        assert_eq!(
            all,
            [
                "internal/packages.arm64_tahoe.jws.json arm64_tahoe",
                "internal/packages.x86_64_linux.jws.json x86_64_linux",
                "cask.jws.json no-bottles",
                "cask_tap_migrations.jws.json no-bottles",
                "formula_tap_migrations.jws.json no-bottles",
                "formula.jws.json all-clients",
                "formula.json all-clients",
            ]
        );
        for scope in [Scope::AllClients, Scope::NoBottles, Scope::Client("x86_64_linux".parse().unwrap())] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert!("../x".parse::<ApiPath>().is_err());
    }
}
