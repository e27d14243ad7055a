//! Where a served mirror is makes no difference to its clients; nor do links, faults
//! and sizes to the server.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use common::store::{Folder, S3};
use futures_util::{StreamExt as _, stream};
use testbed::{Cloud, Spec};
use tokio::sync::Notify;

use crate::aws::Aws;
use crate::harness::bare;
use crate::memory::most_memory;
use crate::serve::{API, LARGE, chosen, flat, flat_index, furnish, index, large, sparse};
use crate::server::{Answer, Server};

const MIB: u64 = 1 << 20;

#[test]
fn a_folder_and_a_bucket_answer_alike() {
    let aws = Aws::with(Spec::demo(1));
    let folder = tempfile::tempdir().unwrap();
    let place = "s3://team-bottles/mirrors/brew";
    for to in [place, folder.path().to_str().unwrap()] {
        aws.run(&["sync", "--to", to]).expect(0);
    }
    aws.runtime.block_on(async {
        let bucket = S3::new(aws.cloud.config(), place.parse().unwrap(), Some(&aws.cloud.emulator().url()));
        furnish(&bucket, &aws.upstream).await;
        furnish(&Folder::open(folder.path()).unwrap(), &aws.upstream).await;
        // Beside the prefix.
        aws.cloud.overwrite("api/beside.json", b"secret").await.unwrap();
    });
    let servers = [
        Server::start(bare(&[Path::new("serve"), folder.path()])),
        Server::start(aws.command(&["serve", place])),
    ];

    let bottle = chosen(&aws.upstream);
    let objects = [API[0], API[1], &bottle.key, &index(&bottle), &flat(&bottle), &flat_index(&bottle)];
    let mut count = 0;
    let mut compare = |method: &str, path: &str, headers: &dyn Fn(&Answer) -> Vec<(&'static str, String)>| {
        let [one, other] = [0, 1].map(|which| {
            let server = &servers[which];
            let known = server.ask("HEAD", path, &[]);
            let headers = headers(&known);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut answer = server.ask(method, path, &headers);
            answer.headers.remove("date");
            // Each store has its own; both are there or none.
            answer.headers.insert("etag".to_owned(), answer.header("etag").is_some().to_string());
            if !path.starts_with("/api/") {
                let dated = answer.header("last-modified").is_some().to_string();
                answer.headers.insert("last-modified".to_owned(), dated);
            }
            answer
        });
        assert!(
            one == other,
            "{method} {path}: {:?} {:?}",
            (one.status, one.headers),
            (other.status, other.headers)
        );
        count += 1;
        one.status
    };
    for key in objects {
        let path = format!("/{key}");
        assert_eq!(compare("GET", &path, &|_| vec![]), 200, "{key}");
        assert_eq!(compare("HEAD", &path, &|_| vec![]), 200, "{key}");
        assert_eq!(compare("PUT", &path, &|_| vec![("Content-Length", "0".to_owned())]), 405);
        for range in ["bytes=1-5", "bytes=7-", "bytes=-9", "bytes=0-99999999"] {
            assert_eq!(compare("GET", &path, &|_| vec![("Range", range.to_owned())]), 206, "{key} {range}");
        }
        for (range, status) in [("bytes=99999999-", 416), ("bytes=-0", 416), ("bytes=0-1,3-4", 200)] {
            assert_eq!(
                compare("GET", &path, &|_| vec![("Range", range.to_owned())]),
                status,
                "{key} {range}"
            );
        }
        let of = |known: &Answer, header: &str| known.header(header).unwrap().to_owned();
        let by_tag = compare("GET", &path, &|known| vec![("If-None-Match", of(known, "etag"))]);
        let by_date = compare("GET", &path, &|known| vec![("If-Modified-Since", of(known, "last-modified"))]);
        assert_eq!((by_tag, by_date), (304, 304), "{key}");
        assert_eq!(compare("GET", &path, &|_| vec![("If-None-Match", "\"other\"".to_owned())]), 200, "{key}");
        let part = compare("GET", &path, &|known| {
            vec![("Range", "bytes=2-3".to_owned()), ("If-Range", of(known, "etag"))]
        });
        assert_eq!(part, 206, "{key}");
    }
    for path in [
        "/_sync/manifest.jsonl.zst",
        "/%5fsync/manifest.jsonl.zst",
        "/v2/..%2f_sync/manifest.jsonl.zst",
        "//_sync/manifest.jsonl.zst",
        "/api/../_sync/manifest.jsonl.zst",
        "/api/beside.json",
        "/api/absent.json",
        "/api/%ff",
        "/",
    ] {
        assert!(matches!(compare("GET", path, &|_| vec![]), 400 | 404), "{path}");
    }
    for bottle in aws.upstream.expected() {
        assert_eq!(compare("GET", &format!("/{}", bottle.key), &|_| vec![]), 200);
    }
    assert!(count > 200);
    assert!(servers.iter().all(|server| server.stderr().is_empty()), "{}", servers[1].stderr());
}

#[test]
fn a_bucket_without_a_mirror_is_refused() {
    let aws = Aws::with(Spec::uniform(1, 1, 1_000, &["all"]));
    let empty = aws.run(&["serve", "s3://team-bottles/nothing"]).expect(2);
    assert!(empty.stderr.contains("s3://team-bottles/nothing holds no mirror"), "{empty}");
    let absent = aws.run(&["serve", "s3://no-such-bucket"]).expect(1);
    assert!(absent.stderr.contains("make the bucket"), "{absent}");
}

#[test]
fn no_link_leads_out_of_the_folder() {
    let place = tempfile::tempdir().unwrap();
    let (mirror, outside) = (place.path().join("mirror"), place.path().join("outside"));
    for folder in ["api", "v2/x/manifests", "_sync/x/manifests"] {
        fs::create_dir_all(mirror.join(folder)).unwrap();
    }
    fs::create_dir_all(outside.join("manifests")).unwrap();
    for secret in
        [outside.join("secret.json"), outside.join("manifests/1"), mirror.join("_sync/x/manifests/1")]
    {
        fs::write(secret, "secret").unwrap();
    }
    fs::write(mirror.join("api/real.json"), "real").unwrap();
    fs::write(mirror.join("v2/x/manifests/1"), "real").unwrap();

    symlink(outside.join("secret.json"), mirror.join("api/file.json")).unwrap();
    symlink("../../outside/secret.json", mirror.join("api/relative.json")).unwrap();
    symlink("file.json", mirror.join("api/twice.json")).unwrap();
    symlink(&outside, mirror.join("api/folder")).unwrap();
    symlink(outside.join("manifests"), mirror.join("v2/x/out")).unwrap();
    symlink(&outside, mirror.join("linked")).unwrap();
    symlink(mirror.join("_sync/x/manifests/1"), mirror.join("api/own.json")).unwrap();
    symlink("../_sync", mirror.join("api/own")).unwrap();
    symlink("loop.json", mirror.join("api/loop.json")).unwrap();
    symlink("absent.json", mirror.join("api/dangling.json")).unwrap();
    assert!(fs::read(mirror.join("linked/manifests/1")).unwrap() == b"secret");
    // Within the mirror a link is as good as a file.
    symlink("real.json", mirror.join("api/alias.json")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(mirror.join("api/pipe.json")).status().unwrap();
    assert!(pipe.success());

    // Nor does it matter that the folder itself is reached by a link.
    symlink(&mirror, place.path().join("current")).unwrap();
    for root in [&mirror, &place.path().join("current")] {
        let server = Server::start(bare(&[Path::new("serve"), root]));
        for path in [
            "api/file.json",
            "api/relative.json",
            "api/twice.json",
            "api/folder/secret.json",
            "api/folder/manifests/1",
            "linked/manifests/1",
            "api/own.json",
            "api/own/x/manifests/1",
            "api/dangling.json",
            "api/pipe.json",
        ] {
            for (method, headers) in [("GET", &[][..]), ("HEAD", &[]), ("GET", &[("Range", "bytes=0-1")])] {
                server.ask(method, &format!("/{path}"), headers).expect(404);
            }
        }
        assert!(server.get("/api/loop.json").status >= 400);
        for path in ["api/real.json", "api/alias.json", "v2/x/manifests/1"] {
            assert_eq!(server.get(&format!("/{path}")).expect(200).body, b"real");
        }
    }
}

#[test]
fn a_folder_that_is_gone_is_not_taken_for_one_that_lacks_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (root, away) = (folder.path().join("mirror"), folder.path().join("away"));
    large(&root, 1);
    let server = Server::start(bare(&[Path::new("serve"), &root]));
    server.get("/api/formula.jws.json").expect(404);
    fs::rename(&root, &away).unwrap();
    for empty in [false, true] {
        if empty {
            // What a disk that is no longer mounted leaves.
            fs::create_dir(&root).unwrap();
        }
        for path in ["/api/formula.jws.json".to_owned(), format!("/{LARGE}")] {
            for method in ["GET", "HEAD"] {
                server.ask(method, &path, &[]).expect(502);
            }
        }
    }
    assert!(server.stderr().contains("gone, or empty"), "{}", server.stderr());
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    server.get(&format!("/{LARGE}")).expect(200);
    server.get("/api/formula.jws.json").expect(404);
}

#[test]
fn a_file_that_ends_too_soon_breaks_its_answer_off() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path(), 200 * MIB);
    let server = Server::start(bare(&[Path::new("serve"), folder.path()]));
    let mut connection = server.connect();
    connection.send("GET", &format!("/{LARGE}"), &[]);
    let length = connection.head().expect(200).length();
    let begun = connection.read(100_000);
    File::options().write(true).open(folder.path().join(LARGE)).unwrap().set_len(MIB).unwrap();
    let rest = connection.read(length);
    assert!(begun.len() + rest.len() < length, "it was made up");
    assert!(server.log(1)[0].contains(" 200 "));
    assert!(server.stderr().contains("broken off") && server.stderr().contains(LARGE), "{}", server.stderr());
    // What is there now is served as it is.
    assert_eq!(server.get(&format!("/{LARGE}")).expect(200).length() as u64, MIB);
}

/// Answers as an S3 does whose objects are in a bad way.
fn failing(breaks: Arc<Notify>, request: &Request) -> Response {
    let path = request.uri().path().to_owned();
    let error = |status: StatusCode, code: &str| {
        (status, format!("<Error><Code>{code}</Code><Message>no</Message></Error>")).into_response()
    };
    if path.contains("denied") {
        return error(StatusCode::FORBIDDEN, "AccessDenied");
    }
    if path.contains("busy") {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    }
    if path.contains("absent") {
        return error(StatusCode::NOT_FOUND, "NoSuchKey");
    }
    if path.contains("breaks") {
        // The connection ends before the length that was told: in the beginning, or when
        // the test says so.
        let at_once = path.contains("at-once");
        let begun = if at_once { 0 } else { 3 };
        let end = async move {
            if !at_once {
                breaks.notified().await;
            }
            Err(std::io::Error::other("gone"))
        };
        let begun = stream::iter((0..begun).map(|_| Ok(Bytes::from(vec![b'x'; 100_000]))));
        let body = begun.chain(stream::once(end));
        return ([("content-length", "1000000"), ("etag", "\"1\"")], Body::from_stream(body)).into_response();
    }
    let listing = "<ListBucketResult><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents>\
                   <Key>api/x</Key><Size>1</Size></Contents></ListBucketResult>";
    (StatusCode::OK, listing).into_response()
}

#[test]
fn a_store_that_fails_is_told_of_and_not_passed_off_as_an_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let breaks = Arc::new(Notify::new());
    let told = Arc::clone(&breaks);
    let service = axum::Router::new().fallback(move |request: Request| {
        let response = failing(Arc::clone(&told), &request);
        async { response }
    });
    runtime.spawn(async move { axum::serve(listener, service).await });
    let mut command = bare(&["serve", "s3://team-bottles", "--s3-endpoint", &endpoint]);
    command.envs([
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "hidden"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ]);
    let server = Server::start(command);
    server.get("/api/absent.json").expect(404);
    for headers in [&[][..], &[("Range", "bytes=0-1")]] {
        let denied = server.ask("GET", "/api/denied.json", headers).expect(502);
        assert!(denied.body.len() < 100 && denied.header("cache-control") == Some("no-store"));
    }
    server.get("/api/busy.json").expect(503);
    // Nothing came yet, so that it can still be told.
    server.get("/api/breaks-at-once.json").expect(503);

    let mut connection = server.connect();
    connection.send("GET", "/api/breaks.json", &[]);
    let length = connection.head().expect(200).length();
    assert_eq!(length, 1_000_000);
    assert_eq!(connection.read(300_000).len(), 300_000);
    breaks.notify_one();
    assert!(connection.read(length).is_empty(), "it was made up");

    let log = server.log(6);
    let statuses: Vec<_> = log.iter().map(|line| line.rsplit(' ').nth(1).unwrap()).collect();
    assert_eq!(statuses, ["404", "502", "502", "503", "503", "200"]);
    assert!(log[5].ends_with(" 300000"), "{}", log[5]);
    let said = server.stderr();
    for word in
        ["api/denied.json", "AccessDenied", "api/busy.json", "InternalError", "api/breaks.json", "broken off"]
    {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(!said.contains("hidden"), "{said}");
}

/// The most memory that a server had while some clients fetched an object, and one
/// had begun to, and waited.
fn peak(server: &Server, key: &str, size: u64) -> u64 {
    let path = format!("/{key}");
    let mut waits = server.connect();
    waits.send("GET", &path, &[]);
    assert_eq!(waits.head().expect(200).length() as u64, size);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connection = server.connect();
                connection.send("GET", &path, &[]);
                let mut left = connection.head().expect(200).length();
                while left > 0 {
                    let came = connection.read(left.min(1 << 20)).len();
                    assert!(came > 0, "it was broken off");
                    left -= came;
                }
            });
        }
    });
    // What is read ahead for the one that waits would be there by now.
    thread::sleep(Duration::from_millis(200));
    most_memory(server.id()).unwrap()
}

fn check(small: u64, large: u64) {
    assert!(large <= small * 135 / 100 + 16 * MIB, "{} MiB against {} MiB", large / MIB, small / MIB);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_a_bottles_size_in_a_folder() {
    for key in [LARGE, "api/large.jws.json"] {
        let [small, large] = [20 * MIB, 200 * MIB].map(|size| {
            let folder = tempfile::tempdir().unwrap();
            sparse(folder.path(), key, size);
            peak(&Server::start(bare(&[Path::new("serve"), folder.path()])), key, size)
        });
        check(small, large);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_a_bottles_size_in_a_bucket() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let cloud = runtime.block_on(Cloud::start()).unwrap();
    let [small, large] = [20 * MIB, 200 * MIB].map(|size| {
        let bytes = vec![7; usize::try_from(size).unwrap()];
        runtime.block_on(cloud.overwrite(LARGE, &bytes)).unwrap();
        let mut command = bare(&["serve", "s3://team-bottles"]);
        command.envs(cloud.environment()).env_remove("AWS_PROFILE");
        peak(&Server::start(command), LARGE, size)
    });
    check(small, large);
}
