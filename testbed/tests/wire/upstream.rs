//! What the servers answer when nothing is wrong, seen over real connections.

use std::collections::HashSet;
use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::{ExpectedBottle, FormulaSpec, Ports, Server, Spec, Upstream};

use crate::client::*;

fn one(size: u64) -> (Upstream, ExpectedBottle) {
    let upstream = start(Spec::uniform(1, 1, size, &["x86_64_linux"]));
    let bottle = upstream.expected().remove(0);
    (upstream, bottle)
}

#[test]
fn the_registry_challenges_and_the_challenge_can_be_walked() {
    let (upstream, bottle) = one(100);
    let url = index_url(&upstream, &bottle);
    let refused = get(&url, &[("Accept", INDEX)]);
    assert_eq!(refused.status, 401);
    let registry = upstream.registry_url();
    let scope = "repository:homebrew/core/uniform-00001:pull";
    assert_eq!(
        refused.header("www-authenticate").unwrap(),
        format!(r#"Bearer realm="{registry}/token",service="ghcr.io",scope="{scope}""#)
    );
    assert_eq!(index(&upstream, &bottle).status, 200);

    upstream.require_fresh_token(true);
    assert_eq!(index(&upstream, &bottle).status, 401);
    assert_eq!(get(&blob_url(&upstream, &bottle), &[("Authorization", ANONYMOUS)]).status, 401);
    let reply = get(&format!("{registry}/token?service=ghcr.io&scope={scope}"), &[]);
    let token = format!("Bearer {}", reply.json()["token"].as_str().unwrap());
    let headers = [("Accept", INDEX), ("Authorization", token.as_str())];
    assert_eq!(get(&url, &headers).status, 200);
    assert_eq!(get(&blob_url(&upstream, &bottle), &headers).status, 307);
    assert_eq!(get(&url, &[("Accept", INDEX), ("Authorization", "Bearer made-up")]).status, 401);
}

#[test]
fn an_index_needs_its_media_type_and_the_exact_name() {
    let (upstream, bottle) = one(100);
    let url = index_url(&upstream, &bottle);
    assert_eq!(get(&url, &[("Authorization", ANONYMOUS)]).status, 404);
    let headers = [("Accept", INDEX), ("Authorization", ANONYMOUS)];
    assert_eq!(get(&format!("{url}_1"), &headers).status, 404);
    let reply = get(&url, &headers);
    assert_eq!(reply.header("content-type"), Some(INDEX));
    assert_eq!(reply.body, upstream.index_bytes("uniform-00001"));
}

#[test]
fn an_index_has_an_entry_for_each_bottle() {
    let spec = Spec {
        formulae: vec![
            FormulaSpec::new("lib++", "1.0").with_bottle("x86_64_linux", 10),
            FormulaSpec::new("made@2", "2.1")
                .with_revision(3)
                .with_rebuild(1)
                .with_dependencies(&["lib++"])
                .with_bottle("arm64_tahoe", 2000)
                .with_bottle("x86_64_linux", 3000),
        ],
        ..Spec::default()
    };
    let upstream = start(spec);
    let expected = upstream.expected();
    let bottle = &expected[2];
    assert_eq!((bottle.image.as_str(), bottle.image_tag.as_str()), ("made/2", "2.1_3-1"));
    assert_eq!(bottle.key, format!("v2/homebrew/core/made/2/blobs/sha256:{}", bottle.digest));
    assert_eq!(expected[0].image, "libxx");

    let index = index(&upstream, bottle).json();
    assert_eq!(index["annotations"]["org.opencontainers.image.ref.name"], "2.1_3-1");
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    let annotations = &entries[1]["annotations"];
    assert_eq!(annotations["sh.brew.bottle.digest"], bottle.digest.as_str());
    assert_eq!(annotations["sh.brew.bottle.size"], "3000");
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "2.1_3.x86_64_linux.1");
    let platform = &entries[0]["platform"];
    assert_eq!((&platform["os"], &platform["architecture"]), (&json!("darwin"), &json!("arm64")));
    let tab: Value = serde_json::from_str(annotations["sh.brew.tab"].as_str().unwrap()).unwrap();
    assert_eq!(tab["runtime_dependencies"][0]["full_name"], "lib++");
}

#[test]
fn a_blob_is_reached_through_a_redirect_and_has_the_digest_of_its_name() {
    let (upstream, bottle) = one(700_001);
    let signed = signed_url(&upstream, &bottle);
    assert!(signed.starts_with(&format!("{}/ghcr1/blobs/sha256:", upstream.cdn_url())));
    let reply = get(&signed, &[]);
    assert_eq!((reply.status, reply.length(), reply.error), (200, 700_001, None));
    assert_eq!(sha256(&reply.body), bottle.digest);
    assert_eq!(upstream.content(&bottle.digest).unwrap(), reply.body);
    assert_eq!(upstream.content(&"0".repeat(64)), None);

    let head = send("HEAD", &blob_url(&upstream, &bottle), &[("Authorization", ANONYMOUS)], "");
    assert_eq!(head.status, 307);
    let head = send("HEAD", head.header("location").unwrap(), &[], "");
    assert_eq!((head.status, head.length(), head.body.len()), (200, 700_001, 0));
}

#[test]
fn a_blob_belongs_to_its_image() {
    let upstream = start(Spec::uniform(1, 2, 50, &["all"]));
    let bottles = upstream.expected();
    let other = bottles[0].key.replace("uniform-00001", "uniform-00002");
    let url = format!("{}/{other}", upstream.registry_url());
    assert_eq!(get(&url, &[("Authorization", ANONYMOUS)]).status, 404);
}

#[test]
fn the_cdn_refuses_authorization_altered_addresses_and_late_comers() {
    let (upstream, bottle) = one(100);
    let signed = signed_url(&upstream, &bottle);
    assert_eq!(upstream.log().violations().len(), 0);
    assert_eq!(get(&signed, &[("Authorization", ANONYMOUS)]).status, 400);
    assert_eq!(upstream.log().violations().len(), 1);

    assert_eq!(get(signed.split_once('?').unwrap().0, &[]).status, 403);
    assert_eq!(get(&signed.replace("sig=", "sig=0"), &[]).status, 403);
    assert_eq!(get(&signed.replace("se=", "se=9"), &[]).status, 403);

    upstream.set_signature_lifetime(Duration::from_millis(40));
    let short = signed_url(&upstream, &bottle);
    thread::sleep(Duration::from_millis(60));
    assert_eq!(get(&short, &[]).status, 403);
    assert_eq!(get(&signed, &[]).status, 200);
}

#[test]
fn ranges_give_parts_of_the_same_bytes() {
    let (upstream, bottle) = one(600_000);
    let whole = upstream.content(&bottle.digest).unwrap();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=262100-262200", 262_100, 262_201),
        ("bytes=599990-", 599_990, 600_000),
        ("bytes=-7", 599_993, 600_000),
    ] {
        let reply = fetch(&upstream, &bottle, &[("Range", range)]);
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(reply.body, whole[from..to], "{range}");
        let value = format!("bytes {from}-{}/600000", to - 1);
        assert_eq!(reply.header("content-range"), Some(value.as_str()));
    }
    let outside = fetch(&upstream, &bottle, &[("Range", "bytes=600000-")]);
    assert_eq!((outside.status, outside.header("content-range")), (416, Some("bytes */600000")));
    let ranged: Vec<_> = upstream.log().entries().into_iter().filter_map(|e| e.range).collect();
    assert_eq!(ranged.len(), 6);
}

#[test]
fn the_catalogue_is_shaped_like_the_real_one() {
    let mut spec = Spec::demo(1);
    spec.raw_elements = vec![json!({"name": 5}), json!("no object")];
    spec.formulae.push(FormulaSpec::new("unbottled", "1"));
    let upstream = start(spec);
    let catalogue = get(&format!("{}/formula.json", upstream.api_url()), &[]).json();
    let elements = catalogue.as_array().unwrap();
    assert_eq!(elements.len(), 43);
    assert_eq!(elements[41..], [json!({"name": 5}), json!("no object")]);
    assert_eq!(elements[40]["bottle"], json!({}));

    let openssl = elements.iter().find(|one| one["name"] == "openssl@3").unwrap();
    assert_eq!(openssl["versions"]["stable"], "3.6.0");
    assert_eq!(openssl["revision"], 1);
    let stable = &openssl["bottle"]["stable"];
    assert_eq!(stable["rebuild"], 0);
    assert_eq!(stable["root_url"], "https://ghcr.io/v2/homebrew/core");
    let file = &stable["files"]["arm64_tahoe"];
    let digest = file["sha256"].as_str().unwrap();
    let url = format!("https://ghcr.io/v2/homebrew/core/openssl/3/blobs/sha256:{digest}");
    assert_eq!(file["url"], url);

    let glib = elements.iter().find(|one| one["name"] == "glib").unwrap();
    let linux = glib["variations"]["x86_64_linux"]["dependencies"].as_array().unwrap();
    assert!(linux.contains(&json!("util-linux")));
    assert_eq!(glib["uses_from_macos"], json!([{"flex": "build"}, "libffi"]));

    let named: HashSet<&str> = elements[..40]
        .iter()
        .flat_map(|one| one["bottle"]["stable"]["files"].as_object().unwrap().values())
        .map(|file| file["sha256"].as_str().unwrap())
        .collect();
    let expected = upstream.expected();
    assert_eq!(named, expected.iter().map(|bottle| bottle.digest.as_str()).collect());
    assert_eq!(named.len() + 2, expected.len());
}

#[test]
fn validators_spare_an_unchanged_catalogue() {
    let upstream = start(Spec::uniform(1, 3, 10, &["all"]));
    let url = format!("{}/formula.json", upstream.api_url());
    let first = get(&url, &[]);
    let (etag, date) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
    let same = get(&url, &[("If-None-Match", etag)]);
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some(etag)));
    assert_eq!(get(&url, &[("If-None-Match", &format!("\"x\", W/{etag}"))]).status, 304);
    assert_eq!(get(&url, &[("If-Modified-Since", date)]).status, 304);
    assert_eq!(get(&url, &[("If-None-Match", "\"x\""), ("If-Modified-Since", date)]).status, 200);
    assert_eq!(get(&url, &[("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")]).status, 200);

    let (etag, date) = (etag.to_owned(), date.to_owned());
    upstream.replace(Spec::uniform(1, 4, 10, &["all"]));
    let next = get(&url, &[("If-None-Match", &etag)]);
    assert_eq!((next.status, next.json().as_array().unwrap().len()), (200, 4));
    assert_ne!(next.header("etag").unwrap(), etag);
    assert_eq!(get(&url, &[("If-Modified-Since", &date)]).status, 200);
}

#[test]
fn gzip_is_served_on_request() {
    let upstream = start(Spec::uniform(1, 30, 10, &["all"]));
    let url = format!("{}/formula.json", upstream.api_url());
    let packed = get(&url, &[("Accept-Encoding", "deflate, gzip, br, zstd")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut text).unwrap();
    assert_eq!(text, upstream.api_file("/api/formula.json").unwrap());
    let etag = packed.header("etag").unwrap();
    let headers = [("Accept-Encoding", "gzip"), ("If-None-Match", etag)];
    assert_eq!(get(&url, &headers).status, 304);
    assert_eq!(get(&url, &[("Accept-Encoding", "gzip;q=0")]).header("content-encoding"), None);
}

#[test]
fn signed_files_are_served_for_each_tag() {
    let upstream = start(Spec::demo(1));
    let origin = upstream.api_url();
    let origin = origin.strip_suffix("/api").unwrap();
    for name in [
        "formula.jws.json",
        "cask.jws.json",
        "formula_tap_migrations.jws.json",
        "cask_tap_migrations.jws.json",
        "internal/packages.arm64_tahoe.jws.json",
        "internal/packages.x86_64_linux.jws.json",
    ] {
        let path = format!("/api/{name}");
        let reply = get(&format!("{origin}{path}"), &[]);
        assert_eq!((reply.status, &reply.body), (200, &upstream.api_file(&path).unwrap()));
        assert!(reply.header("last-modified").is_some());
        let payload = reply.json()["payload"].as_str().unwrap().to_owned();
        serde_json::from_str::<Value>(&payload).unwrap();
    }
    let path = "/api/internal/packages.arm64_tahoe.jws.json";
    let file: Value = serde_json::from_slice(&upstream.api_file(path).unwrap()).unwrap();
    let payload: Value = serde_json::from_str(file["payload"].as_str().unwrap()).unwrap();
    let bison = &payload["formulae"]["bison"];
    let older = upstream.expected().into_iter();
    let older = older.filter(|one| one.formula == "bison").find(|one| one.tag == "arm64_sequoia");
    assert_eq!(bison["sha256"], older.unwrap().digest);
    assert_eq!(payload["formulae"]["util-linux"]["sha256"], Value::Null);
    assert_eq!(get(&format!("{origin}/api/internal/packages.all.jws.json"), &[]).status, 404);
}

#[test]
fn what_was_published_before_stays_in_the_registry() {
    let spec = |version: &str| Spec {
        formulae: vec![FormulaSpec::new("moving", version).with_bottle("all", 300)],
        ..Spec::default()
    };
    let upstream = start(spec("1.0"));
    let old = upstream.expected().remove(0);
    let signed = signed_url(&upstream, &old);
    upstream.replace(Spec { seed: 9, ..spec("1.1") });
    assert_eq!(sha256(&get(&signed, &[]).body), old.digest);
    let new = upstream.expected().remove(0);
    assert_ne!(old.digest, new.digest);
    assert_eq!(new.image_tag, "1.1");
    for bottle in [&old, &new] {
        assert_eq!(sha256(&fetch(&upstream, bottle, &[]).body), bottle.digest);
        let index = index(&upstream, bottle).json();
        let digest = &index["manifests"][0]["annotations"]["sh.brew.bottle.digest"];
        assert_eq!(digest, bottle.digest.as_str());
    }
}

#[test]
fn a_tag_gains_entries_when_a_platform_is_added() {
    let before = FormulaSpec::new("growing", "1.0").with_bottle("sonoma", 300);
    let after = before.clone().with_bottle("arm64_tahoe", 200);
    let upstream = start(Spec { formulae: vec![before], ..Spec::default() });
    let bottle = upstream.expected().remove(0);
    let entries = || index(&upstream, &bottle).json()["manifests"].as_array().unwrap().len();
    assert_eq!(entries(), 1);
    upstream.replace(Spec { formulae: vec![after], ..Spec::default() });
    assert_eq!(entries(), 2);
}

#[test]
fn equal_specs_give_equal_bytes_and_seeds_differ() {
    let (one, same, other) = (start(Spec::demo(4)), start(Spec::demo(4)), start(Spec::demo(5)));
    assert_eq!(one.expected(), same.expected());
    let catalogue = |upstream: &Upstream| upstream.api_file("/api/formula.json");
    assert_eq!(catalogue(&one), catalogue(&same));
    assert_eq!(one.index_bytes("glib"), same.index_bytes("glib"));
    let digests = |upstream: &Upstream| -> HashSet<String> {
        upstream.expected().into_iter().map(|bottle| bottle.digest).collect()
    };
    assert!(digests(&one).is_disjoint(&digests(&other)));
}

#[test]
fn every_bottle_of_the_demo_can_be_fetched() {
    let upstream = start(Spec::demo(1));
    let expected = upstream.expected();
    assert!(expected.len() > 180);
    let mut bytes = 0;
    for bottle in &expected {
        let reply = fetch(&upstream, bottle, &[]);
        assert_eq!(reply.body.len() as u64, bottle.size);
        assert_eq!(sha256(&reply.body), bottle.digest, "{}", bottle.formula);
        bytes += bottle.size;
    }
    let sent = |server| -> u64 {
        let entries = upstream.log().entries().into_iter();
        entries.filter(|entry| entry.server == server).map(|entry| entry.bytes_sent).sum()
    };
    assert_eq!((sent(Server::Cdn), sent(Server::Registry)), (bytes, 0));
    assert_eq!(upstream.log().count("registry:*/blobs/*"), expected.len());
    assert_eq!(upstream.log().max_in_flight(), 1);
    upstream.log().clear();
    assert_eq!(upstream.log().entries().len(), 0);
}

#[test]
fn requests_at_one_time_are_counted() {
    let (upstream, bottle) = one(100);
    let delay = testbed::Fault::Delay(Duration::from_millis(100));
    upstream.faults().set("registry:*", delay, testbed::Times::Always);
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| signed_url(&upstream, &bottle));
        }
    });
    assert_eq!(upstream.log().max_in_flight(), 5);
}

#[test]
fn dropping_it_frees_the_ports_even_in_the_middle_of_an_answer() {
    let (upstream, bottle) = one(1000);
    let stall = testbed::Fault::Stall { after_bytes: 10, r#for: Duration::from_mins(1) };
    upstream.faults().set("cdn:*", stall, testbed::Times::Always);
    let signed = signed_url(&upstream, &bottle);
    let ports = [upstream.api_url(), upstream.registry_url(), upstream.cdn_url(), upstream.files_url()]
        .map(|url| url.trim_end_matches("/api").rsplit(':').next().unwrap().parse().unwrap());
    let stalled = thread::spawn(move || (get(&signed, &[]), Instant::now()));
    thread::sleep(Duration::from_millis(100));
    let dropped = Instant::now();
    drop(upstream);
    let (reply, ended) = stalled.join().unwrap();
    assert_eq!(reply.body.len(), 10);
    assert!(ended - dropped < Duration::from_secs(1));

    let ports = Ports { api: ports[0], registry: ports[1], cdn: ports[2], files: ports[3] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let spec = || Spec::uniform(1, 1, 10, &["all"]);
    let again = runtime.block_on(Upstream::start_on(spec(), ports)).unwrap();
    assert!(again.registry_url().ends_with(&format!(":{}", ports.registry)));
    assert!(runtime.block_on(Upstream::start_on(spec(), ports)).is_err());
}
