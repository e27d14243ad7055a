//! Where a file is that is read whole: on this machine, in a bucket, or on a server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use common::bottle::{ObjectKey, Origin};
use common::store::Location;
use url::Url;

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Object(Location, ObjectKey),
    Document(Url),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let location = format!("s3://{bucket}").parse().map_err(|error| format!("{error}"))?;
            let key = key.parse().map_err(|error| format!("it takes s3://BUCKET/KEY: {error}"))?;
            return Ok(Self::Object(location, key));
        }
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        match Url::parse(text) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                Err("it takes no user and no password in the URL; download the file, and name that"
                    .to_owned())
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Self::Document(url)),
            Ok(_) | Err(_) => Err("it takes a file, s3://BUCKET/KEY or an http or https URL".to_owned()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Object(location, key) => write!(f, "{location}/{key}"),
            // The rest of it may be a password or a signature.
            Self::Document(url) => write!(f, "{}{}", Origin::of(url), url.path()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_path_its_key_or_its_url() {
        let source = |text: &str| text.parse::<Source>();
        assert_eq!(source("some/bottles_hash.json"), Ok(Source::File("some/bottles_hash.json".into())));
        let object = source("s3://old-bottles/state/bottles_hash.json").unwrap();
        assert_eq!(object.to_string(), "s3://old-bottles/state/bottles_hash.json");
        assert!(matches!(&object, Source::Object(_, key) if key.as_str() == "state/bottles_hash.json"));
        let document = source("https://h.example:8443/a/b.json?X-Amz-Signature=SECRET").unwrap();
        assert_eq!(document.to_string(), "https://h.example:8443/a/b.json");
        for text in [
            "s3://old-bottles",
            "s3://old-bottles/",
            "s3://UPPER/key",
            "ftp://h/x",
            "https://",
            "file:///x",
            "https://me:SECRET@h.example/x",
        ] {
            assert!(source(text).is_err(), "{text:?} was taken");
        }
    }
}
