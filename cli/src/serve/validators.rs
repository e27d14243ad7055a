//! What tells an object's states apart for clients and caches.
//! <https://www.rfc-editor.org/rfc/rfc9110#section-13>

use axum::http::{HeaderMap, HeaderName, header};
use common::bottle::{KeyKind, ObjectKey};
use common::store::Version;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// An object's `ETag` and `Last-Modified`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validators {
    /// With its quotes.
    etag: String,
    modified: Timestamp,
    /// Whether every later state has a later date.
    only_ages: bool,
}

impl Validators {
    /// Those of an object. A bottle's tag is its digest, the others' the store's version.
    pub(super) fn of(key: &ObjectKey, modified: Timestamp, version: Option<&Version>) -> Self {
        let bottle = match key.kind() {
            KeyKind::Bottle(digest) => Some(digest),
            _ => None,
        };
        let tag = match bottle {
            Some(digest) => digest.to_string(),
            // S3's own has its quotes.
            None => {
                version.map_or("", |version| version.0.trim_start_matches("W/").trim_matches('"')).to_owned()
            }
        };
        let tag: String = tag.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
        Self { etag: format!("\"{tag}\""), modified: whole_seconds(modified), only_ages: bottle.is_some() }
    }

    pub(super) fn etag(&self) -> &str {
        &self.etag
    }

    pub(super) fn last_modified(&self) -> String {
        self.modified.strftime(FORMATS[0]).to_string()
    }

    /// Whether a client has this state: by its tag if it names one, else by its date.
    pub(super) fn is_known_by(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(header::IF_NONE_MATCH) {
            let values =
                headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
            return values.flat_map(|list| list.split(',')).any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag
            });
        }
        let Some(date) = text(headers, header::IF_MODIFIED_SINCE).and_then(date) else { return false };
        // A rollback publishes older API files and indexes, with their own dates. A
        // client that has a newer one must be sent the older: an equal date alone says
        // that nothing changed. A bottle never changes.
        date == self.modified || (self.only_ages && date > self.modified)
    }

    /// Whether a part is asked for of this state, and not of another that a client
    /// has the beginning of.
    pub(super) fn allow_part(&self, headers: &HeaderMap) -> bool {
        match text(headers, header::IF_RANGE) {
            None => !headers.contains_key(header::IF_RANGE),
            Some(tag) if tag.contains('"') => tag == self.etag,
            Some(text) => date(text) == Some(self.modified),
        }
    }
}

/// A header's only value.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

/// A date as it is written today, and in the two ways of old.
const FORMATS: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

fn date(text: &str) -> Option<Timestamp> {
    let parsed = FORMATS.iter().find_map(|format| DateTime::strptime(format, text).ok())?;
    Some(parsed.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::bottle::Digest;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn at() -> Timestamp {
        "1994-11-06T08:49:37.25Z".parse().unwrap()
    }

    fn of(key: &str) -> Validators {
        Validators::of(&key.parse().unwrap(), at(), Some(&Version("\"v1\"".to_owned())))
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_bottles_tag_is_its_digest_and_that_of_others_the_stores_version() {
        let digest = Digest::of(b"x");
        assert_eq!(of(&format!("v2/x/blobs/sha256:{digest}")).etag(), format!("\"{digest}\""));
        for (version, etag) in [("\"v1\"", "\"v1\""), ("v1", "\"v1\""), ("W/\"v1\"", "\"v1\""), ("", "\"\"")]
        {
            let version = Version(version.to_owned());
            let key = "api/x".parse().unwrap();
            assert_eq!(Validators::of(&key, at(), Some(&version)).etag(), etag);
        }
        assert_eq!(of("api/x").last_modified(), DATE);
    }

    #[test]
    fn a_tag_wins_over_a_date() {
        let known = |pairs: &[(HeaderName, &str)]| of("api/x").is_known_by(&headers(pairs));
        for tags in ["\"v1\"", "W/\"v1\"", "\"a\", \"v1\"", "*", "\"a\",W/\"v1\" ,\"b\""] {
            assert!(known(&[(header::IF_NONE_MATCH, tags)]), "{tags}");
        }
        assert!(known(&[(header::IF_NONE_MATCH, "\"a\""), (header::IF_NONE_MATCH, "\"v1\"")]));
        for tags in ["\"a\"", "v1", "", "\"v1"] {
            assert!(!known(&[(header::IF_NONE_MATCH, tags)]), "{tags}");
        }
        assert!(!known(&[(header::IF_NONE_MATCH, "\"a\""), (header::IF_MODIFIED_SINCE, DATE)]));
        assert!(!known(&[]));
    }

    #[test]
    fn a_newer_copy_of_what_may_be_rolled_back_is_not_taken_for_this_one() {
        let later = "Sun, 06 Nov 1994 08:49:38 GMT";
        let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
        let bottle = format!("v2/x/blobs/sha256:{}", Digest::of(b"x"));
        for (key, on_later) in [
            ("api/x", false),
            ("v2/x/manifests/1", false),
            ("x-1.all.bottle.tar.gz", false),
            (bottle.as_str(), true),
        ] {
            let known = |date| of(key).is_known_by(&headers(&[(header::IF_MODIFIED_SINCE, date)]));
            assert_eq!((known(DATE), known(later), known(earlier)), (true, on_later, false), "{key}");
        }
    }

    #[test]
    fn a_date_is_read_in_all_three_ways_and_nonsense_in_none() {
        for text in [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(date(text), Some(whole_seconds(at())), "{text}");
        }
        for text in ["", "yesterday", "1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 +0100"] {
            assert_eq!(date(text), None, "{text}");
            assert!(!of("api/x").is_known_by(&headers(&[(header::IF_MODIFIED_SINCE, text)])));
        }
    }

    #[test]
    fn a_part_of_another_state_is_not_given() {
        let allow = |value: &str| of("api/x").allow_part(&headers(&[(header::IF_RANGE, value)]));
        assert!(of("api/x").allow_part(&HeaderMap::new()));
        assert!(allow("\"v1\"") && allow(DATE));
        // A weak tag does not promise the same bytes.
        for value in ["\"v2\"", "W/\"v1\"", "Sun, 06 Nov 1994 08:49:38 GMT", "nonsense"] {
            assert!(!allow(value), "{value}");
        }
    }
}
