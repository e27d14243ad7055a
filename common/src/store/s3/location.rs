//! `s3://bucket/prefix`.

use std::fmt;
use std::str::FromStr;

/// A bucket, and the prefix in it that a mirror's keys begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    bucket: String,
    /// Empty, or ending with a slash.
    prefix: String,
}

/// A text that names no place in S3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no place in S3: {why}")]
pub struct InvalidLocation {
    /// As it was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Location {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The whole key of what the mirror calls `key`.
    pub fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The mirror's own key of a whole one; `None` if it is not the mirror's.
    pub(super) fn strip<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.prefix.as_str())
    }
}

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        let refuse = |why| Err(InvalidLocation { text: text.to_owned(), why });
        let Some(rest) = text.strip_prefix("s3://") else { return refuse("it begins with s3://") };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(allowed) {
            return refuse("a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens");
        }
        let prefix = prefix.trim_end_matches('/');
        let bad =
            |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(char::is_control);
        if !prefix.is_empty() && (prefix.len() > 200 || prefix.split('/').any(bad)) {
            return refuse("a prefix has at most 200 bytes, and no empty, . or .. part");
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix } = self;
        match prefix.trim_end_matches('/') {
            "" => write!(f, "s3://{bucket}"),
            prefix => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_bucket_and_a_prefix() {
        let plain: Location = "s3://team-bottles".parse().unwrap();
        assert_eq!((plain.bucket(), plain.full("v2/x").as_str()), ("team-bottles", "v2/x"));
        let below: Location = "s3://team-bottles/mirror/brew/".parse().unwrap();
        assert_eq!(below.full("v2/x"), "mirror/brew/v2/x");
        assert_eq!(below.strip("mirror/brew/v2/x"), Some("v2/x"));
        assert_eq!(below.strip("mirror/v2/x"), None);
        assert_eq!(below.to_string(), "s3://team-bottles/mirror/brew");
        for text in [
            "",
            "team-bottles",
            "s3://",
            "s3://ab",
            "s3://UPPER",
            "s3://team-bottles/a//b",
            "s3://team-bottles/../x",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text:?} was taken");
        }
    }
}
