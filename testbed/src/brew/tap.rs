//! Installing from a tap: what stands in its own files, and where its bottles are.

use super::api::Package;
use super::bottle::{Installed, Wanted};
use super::{Brew, BrewError};
use crate::upstream::ExpectedTapBottle;

impl Brew {
    /// Installs a bottle of a tap. Its formula stands in the tap's own repository, so that
    /// no file of the API is asked for: of a tap in the registry the index and then the
    /// bottle, below the tap's own image; of one on a plain host, whose `root_url` was
    /// changed to lead below the mirror's `/taps/`, the file (HEAD, and GET twice).
    pub async fn install_of_tap(&self, bottle: &ExpectedTapBottle) -> Result<Installed, BrewError> {
        let name = bottle.formula.rsplit('/').next().unwrap_or_default();
        let package = package(bottle, name);
        let wanted = Wanted { name, package: &package, tag: &bottle.tag, sha256: &bottle.digest };
        let Some(image) = &bottle.image else {
            let bytes = self.file(name, &below_taps(&bottle.url)).await?;
            return wanted.received(None, &bytes);
        };
        let announced = self.index(wanted, &format!("/{image}"), self.token()).await?;
        let path = format!("/{image}/blobs/sha256:{}", bottle.digest);
        wanted.received(announced, &self.bottle(name, &path, None).await?)
    }
}

/// What the file's name says: `name-pkg_version.<tag>.bottle[.<rebuild>].tar.gz`.
fn package(bottle: &ExpectedTapBottle, name: &str) -> Package {
    let ExpectedTapBottle { file, tag, digest, .. } = bottle;
    let (rest, mark) = (file.get(name.len() + 1..).unwrap_or_default(), format!(".{tag}.bottle."));
    let (version, end) = rest.split_once(&mark).unwrap_or((rest, ""));
    Package {
        version: version.to_owned(),
        rebuild: end.split('.').next().and_then(|rebuild| rebuild.parse().ok()).unwrap_or(0),
        bottle: Some((tag.clone(), digest.clone())),
        dependencies: Vec::new(),
    }
}

/// Where a mirror has a file of a plain host: below `/taps/`, the host with its port, and
/// the path as it was.
fn below_taps(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    format!("/taps/{}/{path}", host.replace(':', "-"))
}
