//! What `bottles serve` answers.

use std::fs::{self, File};
use std::path::Path;

use common::store::{Body, Condition, Folder, Store};
use jiff::Timestamp;
use testbed::{ExpectedBottle, Spec, Upstream};

use crate::harness::{Mirror, bare};
use crate::server::Server;

pub(crate) const API: [&str; 2] = ["api/formula.jws.json", "api/internal/packages.x86_64_linux.jws.json"];

/// When upstream changed the API files.
const DATE: &str = "Mon, 05 Oct 2026 12:34:56 GMT";
const EARLIER: &str = "Mon, 05 Oct 2026 12:34:55 GMT";
const LATER: &str = "Mon, 05 Oct 2026 12:34:57 GMT";

/// The bottle that has flat names too.
pub(crate) fn chosen(upstream: &Upstream) -> ExpectedBottle {
    upstream.expected().into_iter().find(|bottle| bottle.formula.contains('@')).unwrap()
}

pub(crate) fn index(bottle: &ExpectedBottle) -> String {
    format!("v2/homebrew/core/{}/manifests/{}", bottle.image, bottle.image_tag)
}

pub(crate) fn flat(bottle: &ExpectedBottle) -> String {
    format!("{}-{}.{}.bottle.tar.gz", bottle.formula, bottle.image_tag, bottle.tag)
}

pub(crate) fn flat_index(bottle: &ExpectedBottle) -> String {
    format!("{}/manifests/{}", bottle.image, bottle.image_tag)
}

/// Puts what else a mirror may hold beside the bottles of a sync.
pub(crate) async fn furnish(store: &dyn Store, upstream: &Upstream) {
    let changed: Timestamp = "2026-10-05T12:34:56.5Z".parse().unwrap();
    for key in API {
        let body = upstream.api_file(&format!("/{key}")).unwrap();
        let body = Body::Dated(body.into(), changed);
        store.put(&key.parse().unwrap(), body, Condition::Always).await.unwrap();
    }
    let bottle = chosen(upstream);
    let key = bottle.key.parse().unwrap();
    for flat in [flat(&bottle), format!("taps/example.com/{}", flat(&bottle))] {
        assert!(store.copy(&key, &flat.parse().unwrap()).await.unwrap());
    }
    let body = upstream.index_bytes(&bottle.formula).into();
    store.put(&flat_index(&bottle).parse().unwrap(), body, Condition::Always).await.unwrap();
}

/// A whole mirror in a folder.
pub(crate) fn mirror() -> Mirror {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(furnish(&Folder::open(&mirror.dir()).unwrap(), &mirror.upstream));
    mirror
}

pub(crate) fn serve(place: &Path) -> Server {
    Server::start(bare(&[Path::new("serve"), place]))
}

/// A mirror with one object, of so many bytes that take no room.
pub(crate) const LARGE: &str = "v2/homebrew/core/large/blobs/sha256:\
                                0000000000000000000000000000000000000000000000000000000000000000";

pub(crate) fn large(root: &Path, size: u64) {
    sparse(root, LARGE, size);
}

pub(crate) fn sparse(root: &Path, key: &str, size: u64) {
    let path = root.join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().set_len(size).unwrap();
}

/// A path with everything escaped that may be.
fn escaped(key: &str) -> String {
    key.replace('%', "%25").replace('+', "%2B").replace('@', "%40").replace(':', "%3a")
}

#[test]
fn what_brew_asks_for_is_served_to_the_byte() {
    let mirror = mirror();
    let server = serve(&mirror.dir());
    let mut connection = server.connect();
    // As an older brew does, which must not disturb.
    let token = [("Authorization", "Bearer QQ=="), ("Accept", "application/vnd.oci.image.index.v1+json")];
    let mut get = |key: &str| {
        let body = connection.ask("GET", &format!("/{key}"), &token).expect(200).body;
        assert!(server.get(&format!("/{}?from=brew", escaped(key))).expect(200).body == body, "{key}");
        body
    };
    let upstream = &mirror.upstream;
    for bottle in upstream.expected() {
        assert!(get(&bottle.key) == upstream.content(&bottle.digest).unwrap(), "{}", bottle.key);
        assert!(get(&index(&bottle)) == upstream.index_bytes(&bottle.formula), "{}", index(&bottle));
    }
    for key in API {
        assert!(get(key) == upstream.api_file(&format!("/{key}")).unwrap(), "{key}");
    }
    let bottle = chosen(upstream);
    for key in [flat(&bottle), format!("taps/example.com/{}", flat(&bottle))] {
        assert!(get(&key) == upstream.content(&bottle.digest).unwrap(), "{key}");
    }
    assert!(get(&flat_index(&bottle)) == upstream.index_bytes(&bottle.formula));
    for absent in ["api/absent.jws.json".to_owned(), bottle.key.replace(&bottle.digest, &"0".repeat(64))] {
        let answer = connection.ask("GET", &format!("/{absent}"), &[]).expect(404);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "it may be there tomorrow");
    }
}

#[test]
fn each_object_has_its_headers() {
    let mirror = mirror();
    let server = serve(&mirror.dir());
    let bottle = chosen(&mirror.upstream);
    let always = "public, no-cache";
    for (key, content_type, cache_control) in [
        (
            bottle.key.clone(),
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "public, max-age=31536000, immutable",
        ),
        (index(&bottle), "application/vnd.oci.image.index.v1+json", always),
        (flat_index(&bottle), "application/vnd.oci.image.index.v1+json", always),
        (flat(&bottle), "application/gzip", always),
        (API[1].to_owned(), "application/json", always),
    ] {
        let path = format!("/{key}");
        let whole = server.get(&path).expect(200);
        assert_eq!(whole.header("content-type"), Some(content_type), "{key}");
        assert_eq!(whole.header("cache-control"), Some(cache_control), "{key}");
        assert_eq!(whole.header("accept-ranges"), Some("bytes"), "{key}");
        assert!(whole.header("last-modified").unwrap().ends_with(" GMT"), "{key}");
        assert_eq!(whole.length() as u64, fs::metadata(mirror.path(&key)).unwrap().len(), "{key}");

        let mut connection = server.connect();
        let head = connection.ask("HEAD", &path, &[("Range", "bytes=0-1")]).expect(200);
        let but_date = |answer: &crate::server::Answer| {
            let mut headers = answer.headers.clone();
            headers.remove("date");
            headers
        };
        assert_eq!(but_date(&head), but_date(&whole), "{key}");
        // Nothing follows a HEAD: the next answer begins where it ends.
        connection.ask("GET", &path, &[]).expect(200);
    }
    let etag = server.get(&format!("/{}", bottle.key)).header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", bottle.digest));
    assert_eq!(server.get(&format!("/{}", API[0])).header("last-modified"), Some(DATE));
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let mirror = mirror();
    let server = serve(&mirror.dir());
    let bottle = chosen(&mirror.upstream);
    let status = |key: &str, headers: &[(&str, &str)]| {
        let mut connection = server.connect();
        let answer = connection.ask("GET", &format!("/{key}"), headers);
        if answer.status == 304 {
            assert!(answer.header("etag").is_some() && answer.header("cache-control").is_some());
            assert_eq!(answer.header("content-length"), None, "that would be the length of the whole");
            assert_eq!(server.ask("HEAD", &format!("/{key}"), headers).status, 304);
        }
        // Nothing follows a 304 either.
        connection.ask("GET", &format!("/{key}"), &[]).expect(200);
        answer.status
    };
    for key in [API[0], &bottle.key, &index(&bottle), &flat(&bottle)] {
        let whole = server.get(&format!("/{key}")).expect(200);
        let (etag, date) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
        let weak = format!("\"other\", W/{etag}");
        for known in [
            &[("If-None-Match", etag)][..],
            &[("If-None-Match", &weak)],
            &[("If-None-Match", "*")],
            &[("If-Modified-Since", date)],
            // A tag wins over a date, and both over a range.
            &[("If-None-Match", etag), ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
            &[("If-None-Match", etag), ("Range", "bytes=0-1")],
        ] {
            assert_eq!(status(key, known), 304, "{key} {known:?}");
        }
        for unknown in [
            &[("If-None-Match", "\"other\"")][..],
            &[("If-None-Match", "\"other\""), ("If-Modified-Since", date)],
            &[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
            &[("If-Modified-Since", "yesterday")],
        ] {
            assert_eq!(status(key, unknown), 200, "{key} {unknown:?}");
        }
    }
    // What was rolled back is sent to a client that has a newer one.
    assert_eq!(status(API[0], &[("If-Modified-Since", DATE)]), 304);
    assert_eq!(status(API[0], &[("If-Modified-Since", LATER)]), 200);
    assert_eq!(status(API[0], &[("If-Modified-Since", EARLIER)]), 200);
    assert_eq!(status(&index(&bottle), &[("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT")]), 200);
    assert_eq!(status(&bottle.key, &[("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT")]), 304);
    // An index that was replaced is told from the one before.
    let path = format!("/{}", index(&bottle));
    let before = server.get(&path).header("etag").unwrap().to_owned();
    fs::write(mirror.path(&index(&bottle)), b"{}").unwrap();
    assert_eq!(server.ask("GET", &path, &[("If-None-Match", &before)]).expect(200).body, b"{}");
}

#[test]
fn a_part_is_sent_where_one_is_asked_for() {
    let mirror = mirror();
    let server = serve(&mirror.dir());
    let bottle = chosen(&mirror.upstream);
    for key in [API[0], &bottle.key, &index(&bottle), &flat(&bottle)] {
        let path = format!("/{key}");
        let whole = server.get(&path).expect(200);
        let size = whole.body.len();
        let etag = whole.header("etag").unwrap();
        let ask = |headers: &[(&str, &str)]| server.ask("GET", &path, headers);
        let beyond = format!("bytes=5-{}", size + 100);
        for (range, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=5-9", 5..10),
            ("bytes=5-", 5..size),
            ("bytes=-7", size - 7..size),
            (beyond.as_str(), 5..size),
        ] {
            let part = ask(&[("Range", range)]).expect(206);
            let told = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
            assert_eq!(part.header("content-range"), Some(told.as_str()), "{key} {range}");
            assert_eq!(part.header("etag"), Some(etag));
            assert!(part.body == whole.body[expected], "{key} {range}");
        }
        let outside = format!("bytes={size}-");
        for range in [outside.as_str(), "bytes=-0"] {
            let refused = ask(&[("Range", range)]).expect(416);
            assert_eq!(refused.header("content-range"), Some(format!("bytes */{size}").as_str()), "{key}");
        }
        for range in ["bytes=0-1,4-5", "items=0-1", "bytes=9-5", "bytes=x-", "nonsense"] {
            assert!(ask(&[("Range", range)]).expect(200).body == whole.body, "{key} {range}");
        }
        let date = whole.header("last-modified").unwrap();
        for same in [etag, date] {
            assert_eq!(ask(&[("Range", "bytes=0-3"), ("If-Range", same)]).expect(206).body, whole.body[..4]);
        }
        for other in ["\"other\"", &format!("W/{etag}"), "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert!(ask(&[("Range", "bytes=0-3"), ("If-Range", other)]).expect(200).body == whole.body);
        }
    }
}

#[test]
fn nothing_of_the_systems_own_is_served() {
    let mirror = mirror();
    let own = "_sync/manifest.jsonl.zst";
    assert!(mirror.path(own).is_file() && mirror.path("_sync/queue.sqlite").is_file());
    // What looks like an object, in the wrong place.
    for stray in [
        "_sync/x/manifests/1",
        "_sync/x-1.all.bottle.tar.gz",
        "notes.txt",
        "2026/x-1.all.bottle.tar.gz",
        "deploy/manifests/secret.yaml",
        "deploy/manifests/1.0",
    ] {
        fs::create_dir_all(mirror.path(stray).parent().unwrap()).unwrap();
        fs::write(mirror.path(stray), "secret").unwrap();
    }
    let server = serve(&mirror.dir());
    let long = format!("/api/{}", "x".repeat(300));
    let longer = format!("/api/{}", "x/".repeat(600));
    for path in [
        "/_sync/manifest.jsonl.zst",
        "/_sync/queue.sqlite",
        "/_sync/x/manifests/1",
        "/_sync/x-1.all.bottle.tar.gz",
        "/%5fsync/manifest.jsonl.zst",
        "/%5Fsync%2fmanifest.jsonl.zst",
        "/%255fsync/manifest.jsonl.zst",
        "//_sync/manifest.jsonl.zst",
        "///_sync/x/manifests/1",
        "/./_sync/manifest.jsonl.zst",
        "/v2/..%2f_sync/manifest.jsonl.zst",
        "/v2/%2e%2e/_sync/manifest.jsonl.zst",
        "/v2/%2e%2e%2f_sync/x/manifests/1",
        "/api/../_sync/manifest.jsonl.zst",
        "/api/../_sync/x/manifests/1",
        "/api/..\\_sync\\manifest.jsonl.zst",
        "/api/..%5c_sync%5cmanifest.jsonl.zst",
        "/_SYNC/x/manifests/1",
        "/_sync%00/x/manifests/1",
        "/api/../../../../../../etc/passwd",
        "/api/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "http://mirror.example.com/_sync/manifest.jsonl.zst",
        "/",
        "/?/api/formula.jws.json",
        "/api",
        "/api/",
        "/v2/",
        "/v2/homebrew",
        "/notes.txt",
        "/2026/x-1.all.bottle.tar.gz",
        "/deploy/manifests/secret.yaml",
        "/deploy/manifests/1.0",
        "/api/formula.jws.json/",
        "/api/formula.jws.json/x",
        "/api/formula.jws.json%00",
        "/api/%zz",
        "/api/%",
        &long,
        &longer,
    ] {
        for method in ["GET", "HEAD"] {
            let answer = server.ask(method, path, &[]);
            assert!(matches!(answer.status, 400 | 404), "{method} {path}: {}", answer.status);
            assert!(answer.body.len() < 100 && !answer.body.starts_with(b"secret"), "{path}");
        }
    }
    server.get("/api/formula.jws.json").expect(200);
    server.get("http://mirror.example.com/api/formula.jws.json").expect(200);
}

#[test]
fn a_mirror_is_only_read() {
    let mirror = mirror();
    let server = serve(&mirror.dir());
    let before = crate::tree::picture(&mirror.dir());
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"] {
        for path in [API[0], "_sync/manifest.jsonl.zst", "nothing"] {
            let answer = server.ask(method, &format!("/{path}"), &[("Content-Length", "0")]).expect(405);
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
        }
    }
    server.ask("OPTIONS", "*", &[]).expect(405);
    for _ in 0..2 {
        server.get(&format!("/{}", API[0])).expect(200);
    }
    assert_eq!(crate::tree::picture(&mirror.dir()), before, "it left a trace");
}
