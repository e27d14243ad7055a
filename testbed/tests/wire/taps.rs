//! Taps beside homebrew/core: in the registry, and on a plain host.

use std::collections::HashSet;

use serde_json::{Value, json};
use testbed::{ExpectedTapBottle, Fault, FormulaSpec, Server, Spec, TapRoot, TapSpec, Times, Upstream};

use crate::client::*;

const TOOLS: &str = "example/tools";
const FILES: &str = "example/files";

/// Two formulae of homebrew/core and two other taps.
fn spec() -> Spec {
    Spec { taps: TapSpec::demo(), ..Spec::uniform(1, 2, 3000, &["x86_64_linux"]) }
}

fn bottle(upstream: &Upstream, formula: &str, tag: &str) -> ExpectedTapBottle {
    let tap = formula.rsplit_once('/').unwrap().0;
    let mut all = upstream.expected_in(tap).into_iter();
    all.find(|one| one.formula == formula && one.tag == tag).unwrap()
}

/// Where a bottle of a tap in the registry is to be asked for.
fn rewritten(upstream: &Upstream, bottle: &ExpectedTapBottle) -> String {
    bottle.url.replace("https://ghcr.io", &upstream.registry_url())
}

fn element(catalogue: &Value, name: &str) -> Value {
    let mut all = catalogue.as_array().unwrap().iter();
    all.find(|one| one["name"] == name).unwrap().clone()
}

#[test]
fn a_tap_has_a_catalogue_of_its_own() {
    let upstream = start(spec());
    let url = upstream.tap_catalogue_url(TOOLS);
    assert_eq!(url, upstream.api_url().replace("/api", "/taps/example/tools/formula.json"));
    let reply = get(&url, &[]);
    assert_eq!((reply.status, &reply.body), (200, &upstream.tap_catalogue(TOOLS)));
    let catalogue = reply.json();
    assert_eq!(catalogue.as_array().unwrap().len(), 2);
    let tool = element(&catalogue, "tool@2");
    assert_eq!(tool["full_name"], "example/tools/tool@2");
    assert_eq!(tool["tap"], TOOLS);
    assert_eq!(tool["dependencies"], json!(["example/tools/libtool++"]));
    let stable = &tool["bottle"]["stable"];
    assert_eq!(stable["root_url"], "https://ghcr.io/v2/example/tools");
    let linux = bottle(&upstream, "example/tools/tool@2", "x86_64_linux");
    let url = format!("https://ghcr.io/v2/example/tools/tool/2/blobs/sha256:{}", linux.digest);
    assert_eq!(stable["files"]["x86_64_linux"]["url"], url);
    assert_eq!(linux.url, url);

    let etag = reply.header("etag").unwrap();
    assert_eq!(get(&upstream.tap_catalogue_url(TOOLS), &[("If-None-Match", etag)]).status, 304);
    assert_eq!(get(&upstream.tap_catalogue_url("example/none"), &[]).status, 404);
    assert_eq!(get(&upstream.tap_catalogue_url("homebrew/core"), &[]).status, 404);
    assert_eq!(upstream.tap_catalogue("example/none"), b"");
}

#[test]
fn the_core_catalogue_and_the_apis_files_know_no_other_tap() {
    let (upstream, alone) = (start(spec()), start(Spec { taps: Vec::new(), ..spec() }));
    assert_eq!(upstream.expected(), alone.expected());
    assert_eq!(upstream.api_paths(), alone.api_paths());
    for path in upstream.api_paths() {
        assert_eq!(upstream.api_file(&path), alone.api_file(&path), "{path}");
    }
    assert_eq!(upstream.expected_in("example/none"), []);
    let core = upstream.expected_in("homebrew/core");
    assert_eq!(core[0].image.as_deref(), Some("v2/homebrew/core/uniform-00001"));
    assert_eq!(core[0].digest, upstream.expected()[0].digest);
}

#[test]
fn a_tap_in_the_registry_answers_as_homebrew_core_does() {
    let upstream = start(spec());
    let linux = bottle(&upstream, "example/tools/tool@2", "x86_64_linux");
    assert_eq!(linux.image.as_deref(), Some("v2/example/tools/tool/2"));
    assert_eq!((linux.image_tag.as_str(), linux.size), ("2.1_1-1", 31_000));
    let url = format!("{}/v2/example/tools/tool/2/manifests/2.1_1-1", upstream.registry_url());
    let refused = get(&url, &[("Accept", INDEX)]);
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.ends_with(r#"scope="repository:example/tools/tool/2:pull""#), "{challenge}");

    let index = get(&url, &[("Accept", INDEX), ("Authorization", ANONYMOUS)]);
    assert_eq!(index.body, upstream.index_bytes("example/tools/tool@2"));
    let entry = &index.json()["manifests"][1]["annotations"];
    assert_eq!(entry["sh.brew.bottle.digest"], linux.digest.as_str());
    assert_eq!(entry["org.opencontainers.image.ref.name"], "2.1_1.x86_64_linux.1");
    let tab: Value = serde_json::from_str(entry["sh.brew.tab"].as_str().unwrap()).unwrap();
    assert_eq!(tab["runtime_dependencies"][0]["full_name"], "example/tools/libtool++");

    let redirected = get(&rewritten(&upstream, &linux), &[("Authorization", ANONYMOUS)]);
    assert_eq!(redirected.status, 307);
    let body = get(redirected.header("location").unwrap(), &[]).body;
    assert_eq!((sha256(&body), Some(body)), (linux.digest.clone(), upstream.content(&linux.digest)));
    assert_eq!(get(&rewritten(&upstream, &linux), &[]).status, 401);
}

#[test]
fn an_image_holds_its_own_taps_bottles_alone() {
    let mut spec = spec();
    let namesake = FormulaSpec::new("uniform-00001", "9.9").with_bottle("x86_64_linux", 400);
    spec.taps[0].formulae.push(namesake);
    let upstream = start(spec);
    let other = bottle(&upstream, "example/tools/uniform-00001", "x86_64_linux");
    let core = upstream.expected().remove(0);
    let status = |path: &str| {
        let url = format!("{}{path}", upstream.registry_url());
        get(&url, &[("Accept", INDEX), ("Authorization", ANONYMOUS)]).status
    };
    assert_eq!(status("/v2/homebrew/core/uniform-00001/manifests/1.0.0"), 200);
    assert_eq!(status("/v2/example/tools/uniform-00001/manifests/9.9"), 200);
    assert_eq!(status("/v2/homebrew/core/uniform-00001/manifests/9.9"), 404);
    assert_eq!(status("/v2/example/tools/uniform-00001/manifests/1.0.0"), 404);
    assert_eq!(status("/v2/uniform-00001/manifests/1.0.0"), 404);
    for (digest, in_core, in_tap) in [(core.digest, 307, 404), (other.digest, 404, 307)] {
        assert_eq!(status(&format!("/v2/homebrew/core/uniform-00001/blobs/sha256:{digest}")), in_core);
        assert_eq!(status(&format!("/v2/example/tools/uniform-00001/blobs/sha256:{digest}")), in_tap);
    }
    let digest = &bottle(&upstream, "example/files/data+files", "all").digest;
    assert_eq!(status(&format!("/v2/example/files/dataxfiles/blobs/sha256:{digest}")), 404);
    assert_eq!(status("/v2/example/files/dataxfiles/manifests/2026.10"), 404);
    assert_eq!(upstream.index_bytes("example/files/data+files"), b"");
}

#[test]
fn a_bottle_on_a_plain_host_is_a_flat_file_for_everyone() {
    let upstream = start(spec());
    let catalogue = get(&upstream.tap_catalogue_url(FILES), &[]).json();
    let plain = element(&catalogue, "plain@1.2");
    let stable = &plain["bottle"]["stable"];
    assert_eq!(stable["root_url"], format!("{}/example/files", upstream.files_url()));
    assert_eq!(stable["rebuild"], 2);
    let linux = bottle(&upstream, "example/files/plain@1.2", "x86_64_linux");
    assert_eq!(linux.file, "plain@1.2-1.2.7_3.x86_64_linux.bottle.2.tar.gz");
    assert_eq!(linux.image, None);
    let file = "plain%401.2-1.2.7_3.x86_64_linux.bottle.2.tar.gz";
    assert_eq!(linux.url, format!("{}/example/files/{file}", upstream.files_url()));
    assert_eq!(stable["files"]["x86_64_linux"]["url"], linux.url);
    assert_eq!(stable["files"]["x86_64_linux"]["sha256"], linux.digest);

    let whole = upstream.content(&linux.digest).unwrap();
    assert_eq!(get(&linux.url, &[]).body, whole);
    assert_eq!(get(&linux.url.replace("%40", "@"), &[("Authorization", "Bearer x")]).body, whole);
    let part = get(&linux.url, &[("Range", "bytes=100-299")]);
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 100-299/26000")));
    assert_eq!(part.body, whole[100..300]);
    let head = send("HEAD", &linux.url, &[], "");
    assert_eq!((head.status, head.length(), head.body.len()), (200, 26_000, 0));
    assert_eq!(upstream.log().violations().len(), 0);

    let data = bottle(&upstream, "example/files/data+files", "all");
    assert!(data.url.ends_with("/data%2Bfiles-2026.10.all.bottle.tar.gz"), "{}", data.url);
    assert_eq!(sha256(&get(&data.url, &[]).body), data.digest);
    for wrong in
        [data.url.replace("2026.10", "2026.11"), data.url.replace("%2B", "%2"), upstream.files_url() + "/"]
    {
        assert_eq!(get(&wrong, &[]).status, 404, "{wrong}");
    }
    assert_eq!(send("POST", &data.url, &[], "").status, 405);
}

#[test]
fn the_plain_host_is_logged_and_fails_on_demand() {
    let upstream = start(spec());
    let data = bottle(&upstream, "example/files/data+files", "all");
    let pattern = "files:/example/files/data%2Bfiles-*";
    upstream.faults().set(pattern, Fault::Truncate { after_bytes: 50 }, Times::First(1));
    assert_eq!(get(&data.url, &[]).body.len(), 50);
    let status = Fault::Status { code: 503, retry_after: Some("1".to_owned()) };
    upstream.faults().set("files:*", status, Times::First(1));
    assert_eq!(get(&data.url, &[]).status, 503);
    upstream.faults().set("files:*", Fault::NoRange, Times::First(1));
    assert_eq!(get(&data.url, &[("Range", "bytes=0-9")]).body.len(), 5000);
    assert_eq!(sha256(&get(&data.url, &[]).body), data.digest);
    assert_eq!(upstream.log().count(pattern), 4);
    let entries = upstream.log().entries();
    assert!(entries.iter().all(|entry| entry.server == Server::Files && !entry.had_authorization));
    assert_eq!(entries[2].range.as_deref(), Some("bytes=0-9"));
}

#[test]
fn a_tap_changes_with_the_spec_and_its_earlier_files_stay() {
    let upstream = start(spec());
    let old = bottle(&upstream, "example/files/data+files", "all");
    let catalogue = upstream.tap_catalogue(FILES);
    let mut next = spec();
    let data = &mut next.taps[1].formulae[0];
    *data = FormulaSpec::new("data+files", "2026.11").with_bottle("all", 6000);
    upstream.replace(next);
    let new = bottle(&upstream, "example/files/data+files", "all");
    assert_ne!(upstream.tap_catalogue(FILES), catalogue);
    for one in [&old, &new] {
        assert_eq!(sha256(&get(&one.url, &[]).body), one.digest);
    }
    upstream.replace(Spec { taps: Vec::new(), ..spec() });
    assert_eq!(get(&upstream.tap_catalogue_url(FILES), &[]).status, 404);
    assert_eq!(get(&new.url, &[]).status, 200);
}

#[test]
fn the_variables_allow_the_plain_host_where_a_tap_is_on_it() {
    let allowed = |upstream: &Upstream| {
        let all = upstream.variables();
        all.into_iter().find(|(name, _)| name == "BOTTLES_ALLOW_HOST").unwrap().1
    };
    let host = |url: String| url.replace("http://", "");
    let upstream = start(spec());
    let both = format!("{},{}", host(upstream.cdn_url()), host(upstream.files_url()));
    assert_eq!(allowed(&upstream), both);
    let registry_alone = vec![TapSpec::new(TOOLS, TapRoot::Registry)];
    upstream.replace(Spec { taps: registry_alone, ..spec() });
    assert_eq!(allowed(&upstream), host(upstream.cdn_url()));
}

#[test]
fn every_bottle_of_every_tap_has_its_digest() {
    let upstream = start(spec());
    let mut seen = HashSet::new();
    for bottle in [TOOLS, FILES].iter().flat_map(|tap| upstream.expected_in(tap)) {
        let content = upstream.content(&bottle.digest).unwrap();
        assert_eq!((content.len() as u64, sha256(&content)), (bottle.size, bottle.digest.clone()));
        seen.insert(bottle.digest);
    }
    assert_eq!(seen.len(), 7);
}
