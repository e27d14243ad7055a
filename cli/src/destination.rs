//! What `--to` names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use common::store::Location;

/// What `--to` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Folder(PathBuf),
    Bucket(Location),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Taken for a path it would be the current directory.
        if text.is_empty() {
            return Err(
                "it is empty, as where BOTTLES_TO or a script's variable is set to nothing; it takes a folder \
                 (the current one is `.`), s3://BUCKET or s3://BUCKET/PREFIX"
                    .to_owned(),
            );
        }
        if text.starts_with("s3://") {
            return text.parse().map(Self::Bucket).map_err(|error| format!("{error}"));
        }
        if text.contains("://") {
            return Err("it takes a folder, s3://BUCKET or s3://BUCKET/PREFIX".to_owned());
        }
        Ok(Self::Folder(text.into()))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(location) => location.fmt(f),
        }
    }
}
