//! From a request's path to the key of an object.

use common::bottle::ObjectKey;

/// Why a path leads to no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// It can't be decoded.
    Malformed,
    /// No object that clients may read has such a key.
    NotServed,
}

/// The key that a path names, which is decoded once.
pub(super) fn key_of(path: &str) -> Result<ObjectKey, NoKey> {
    let encoded = path.strip_prefix('/').ok_or(NoKey::Malformed)?;
    let text = decoded(encoded).ok_or(NoKey::Malformed)?;
    // Clients' keys are ASCII. What is not, or `_SYNC/…`, may be another spelling of
    // the system's own for a file system that knows several of one name.
    let top = text.split('/').next().unwrap_or_default();
    if !text.is_ascii() || top.eq_ignore_ascii_case("_sync") {
        return Err(NoKey::NotServed);
    }
    match text.parse::<ObjectKey>() {
        Ok(key) if key.is_served() => Ok(key),
        _ => Err(NoKey::NotServed),
    }
}

/// `None` for an escape that is none, or that stands for a slash: it would be a part
/// of a name, and no name of ours has one.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let byte = digit(rest.next()?)? << 4 | digit(rest.next()?)?;
        if byte == b'/' {
            return None;
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        let digest = "0".repeat(64);
        for (path, key) in [
            ("/api/formula.jws.json".to_owned(), "api/formula.jws.json".to_owned()),
            (
                format!("/v2/homebrew/core/gtkx3/blobs/sha256%3A{digest}"),
                format!("v2/homebrew/core/gtkx3/blobs/sha256:{digest}"),
            ),
            ("/bar%2B%2B-2.3_1.all.bottle.tar.gz".to_owned(), "bar++-2.3_1.all.bottle.tar.gz".to_owned()),
            ("/foo%401.2-1.all.bottle.tar.gz".to_owned(), "foo@1.2-1.all.bottle.tar.gz".to_owned()),
            ("/foo@1.2/manifests/1%2e0".to_owned(), "foo@1.2/manifests/1.0".to_owned()),
            ("/api/a%252Fb".to_owned(), "api/a%2Fb".to_owned()),
        ] {
            assert_eq!(key_of(&path).map(|key| key.to_string()), Ok(key), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_no_clients_key_leads_nowhere() {
        for path in [
            "/",
            "//",
            "/api",
            "/api/",
            "/notes.txt",
            "/_sync/manifest.jsonl.zst",
            "/%5fsync/manifest.jsonl.zst",
            "//_sync/manifest.jsonl.zst",
            "/./_sync/manifest.jsonl.zst",
            "/api/../_sync/manifest.jsonl.zst",
            "/api/%2e%2e/_sync/manifest.jsonl.zst",
            "/_SYNC/runs/r/v2/x/manifests/1",
            "/_sync/x/manifests/1",
            "/_s\u{200c}ync/x/manifests/1",
            "/api/x%00",
            "/api/x%0a",
            "/api/..%5c_sync",
            "/api/x/",
        ] {
            assert_eq!(key_of(path), Err(NoKey::NotServed), "{path}");
        }
        for path in
            ["", "*", "x", "/api/%", "/api/%4", "/api/%zz", "/api/%+1", "/api/%ff", "/v2/..%2f_sync/x"]
        {
            assert_eq!(key_of(path), Err(NoKey::Malformed), "{path}");
        }
    }
}
