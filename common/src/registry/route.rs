//! Where a request may go, and where it really goes.

use std::collections::BTreeMap;
use std::str::FromStr;

use url::Url;

use crate::bottle::Origin;

use super::Error;

/// Which hosts are allowed, and which origins are served by another.
#[derive(Debug, Clone)]
pub struct Routes {
    rewrites: BTreeMap<Origin, Origin>,
    allowed: Vec<AllowedHost>,
    /// Allowed as they are spelled, scheme and port included.
    origins: Vec<Origin>,
    /// The same, for catalogues alone: who fetches bottles doesn't know of these.
    catalogues: Vec<Origin>,
}

/// A host that the configuration names: `mirror.lan` or `127.0.0.1:9000`.
///
/// Being named, it may be asked over plain HTTP too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    host: String,
    /// `None`: any port.
    port: Option<u16>,
}

/// Requests for one origin that go to another: `https://ghcr.io=http://127.0.0.1:9000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The origin that a URL names.
    pub from: Origin,
    /// The origin that is asked instead.
    pub to: Origin,
}

/// Text that names no host, or no pair of origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}")]
pub struct InvalidRoute {
    text: String,
    why: String,
}

/// The hosts that a mirror of Homebrew needs; https only.
pub const DEFAULT_HOSTS: [&str; 2] = ["ghcr.io", "pkg-containers.githubusercontent.com"];

impl Routes {
    /// The default hosts, those that are named, and the targets of `rewrites`.
    pub fn new(rewrites: &[Rewrite], named: &[AllowedHost]) -> Self {
        Self {
            rewrites: rewrites.iter().map(|rewrite| (rewrite.from.clone(), rewrite.to.clone())).collect(),
            allowed: named.to_vec(),
            origins: rewrites.iter().map(|rewrite| rewrite.to.clone()).collect(),
            catalogues: Vec::new(),
        }
    }

    /// Allows the origin of a URL that the configuration names.
    #[must_use]
    pub fn with_origin_of(mut self, url: &Url) -> Self {
        self.origins.push(Origin::of(url));
        self
    }

    /// Allows the origin of a catalogue that the selection names, and for catalogues only.
    #[must_use]
    pub fn with_catalogue(mut self, url: &Url) -> Self {
        self.catalogues.push(Origin::of(url));
        self
    }

    /// The URL to ask for `url`, which is a catalogue's or not, if its host is allowed.
    pub(super) fn resolve(&self, url: &Url, is_catalogue: bool) -> Result<Url, Error> {
        let origin = Origin::of(url);
        if let Some(target) = self.rewrites.get(&origin) {
            let rest = &url[url::Position::BeforePath..];
            return Url::parse(&format!("{target}{rest}"))
                .map_err(|why| Error::BadUrl { url: target.to_string(), why: why.to_string() });
        }
        if self.allows(url) || (is_catalogue && self.catalogues.contains(&origin)) {
            Ok(url.clone())
        } else {
            Err(Error::HostNotAllowed { origin: origin.to_string() })
        }
    }

    fn allows(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        if !url.username().is_empty() || url.password().is_some() {
            return false;
        }
        let by_default = url.scheme() == "https" && url.port().is_none() && DEFAULT_HOSTS.contains(&host);
        let port = url.port_or_known_default();
        by_default
            || self.origins.contains(&Origin::of(url))
            || self
                .allowed
                .iter()
                .any(|named| named.host == host && (named.port.is_none() || named.port == port))
    }
}

/// Whether a URL is of this machine itself.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl FromStr for AllowedHost {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        let refuse =
            || InvalidRoute { text: text.to_owned(), why: "is no host: write HOST or HOST:PORT".to_owned() };
        if text.contains(['/', '@', '?', '#']) {
            return Err(refuse());
        }
        // The URL parser knows about brackets, case and international names.
        let url = Url::parse(&format!("http://{text}/")).map_err(|_| refuse())?;
        let host = url.host_str().ok_or_else(refuse)?.to_owned();
        let port = match text.rsplit_once(':') {
            Some((_, port)) if !text.ends_with(']') => Some(port.parse().map_err(|_| refuse())?),
            _ => None,
        };
        Ok(Self { host, port })
    }
}

impl FromStr for Rewrite {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        let refuse = |why: String| InvalidRoute { text: text.to_owned(), why };
        let (from, to) = text.split_once('=').ok_or_else(|| {
            refuse("is no rewrite: write FROM=TO, such as https://ghcr.io=http://127.0.0.1:9000".to_owned())
        })?;
        let origin = |text: &str| text.parse().map_err(|error| refuse(format!("is no rewrite: {error}")));
        Ok(Self { from: origin(from)?, to: origin(to)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(rewrites: &[&str], hosts: &[&str]) -> Routes {
        let rewrites: Vec<_> = rewrites.iter().map(|text| text.parse().unwrap()).collect();
        let hosts: Vec<_> = hosts.iter().map(|text| text.parse().unwrap()).collect();
        Routes::new(&rewrites, &hosts)
    }

    fn resolve(routes: &Routes, url: &str) -> Option<String> {
        routes.resolve(&Url::parse(url).unwrap(), false).ok().map(String::from)
    }

    #[test]
    fn only_the_default_hosts_and_only_https() {
        let routes = routes(&[], &[]);
        assert!(resolve(&routes, "https://ghcr.io/v2/x").is_some());
        assert!(resolve(&routes, "https://pkg-containers.githubusercontent.com/x?sig=1").is_some());
        for url in [
            "http://ghcr.io/v2/x",
            "https://ghcr.io:8443/v2/x",
            "https://ghcr.io.evil.example/v2/x",
            "https://evil.example/ghcr.io",
            "https://user@ghcr.io/v2/x",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
        ] {
            assert!(resolve(&routes, url).is_none(), "{url} was allowed");
        }
    }

    #[test]
    fn the_host_of_a_catalogue_is_allowed_for_catalogues_alone() {
        let url = Url::parse("https://taps.example.com/formula.json").unwrap();
        let routes = routes(&[], &[]).with_catalogue(&url);
        assert!(routes.resolve(&url, true).is_ok());
        assert!(resolve(&routes, "https://taps.example.com/tools/x-1.all.bottle.tar.gz").is_none());
        assert!(routes.resolve(&Url::parse("https://other.example.com/x").unwrap(), true).is_err());
    }

    #[test]
    fn a_named_host_may_be_plain_http_on_its_port() {
        let routes = routes(&[], &["mirror.lan", "127.0.0.1:9000", "[::1]:9001"]);
        assert!(resolve(&routes, "http://mirror.lan:8080/x").is_some());
        assert!(resolve(&routes, "http://127.0.0.1:9000/x").is_some());
        assert!(resolve(&routes, "http://[::1]:9001/x").is_some());
        assert!(resolve(&routes, "http://127.0.0.1:9001/x").is_none());
    }

    #[test]
    fn a_rewrite_changes_the_origin_alone_and_allows_its_target() {
        let routes = routes(&["https://ghcr.io=http://127.0.0.1:9000"], &[]);
        assert_eq!(
            resolve(&routes, "https://ghcr.io/v2/a?b=c").as_deref(),
            Some("http://127.0.0.1:9000/v2/a?b=c")
        );
        assert!(resolve(&routes, "http://127.0.0.1:9000/other").is_some());
        assert!(resolve(&routes, "http://127.0.0.1:9001/other").is_none());
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for text in
            ["", "ghcr.io", "https://ghcr.io", "https://ghcr.io=", "a=b", "https://ghcr.io/x=http://h"]
        {
            assert!(text.parse::<Rewrite>().is_err(), "{text:?} was taken");
        }
        for text in ["", "http://x", "a b", "host:port", "host:99999", "u@h", "h/p"] {
            assert!(text.parse::<AllowedHost>().is_err(), "{text:?} was taken");
        }
    }
}
