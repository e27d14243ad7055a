//! What the API's signed files say, and what is left out of them.

use serde_json::{Value, json};
use testbed::{FormulaSpec, Spec, Upstream};

use crate::client::*;

fn payload(upstream: &Upstream, path: &str) -> Value {
    let file: Value = serde_json::from_slice(&upstream.api_file(path).unwrap()).unwrap();
    serde_json::from_str(file["payload"].as_str().unwrap()).unwrap()
}

fn packages(upstream: &Upstream, tag: &str) -> Value {
    payload(upstream, &format!("/api/internal/packages.{tag}.jws.json"))["formulae"].clone()
}

#[test]
fn a_packages_file_holds_what_its_platform_installs() {
    let tool = FormulaSpec::new("tool", "1.0")
        .with_revision(1)
        .with_rebuild(2)
        .with_dependencies(&["lib"])
        .with_variation("arm64_linux", &["lib", "extra"])
        .with_uses_from_macos([json!("zed"), json!({"flex": "build"})])
        .with_bottle("arm64_sequoia", 100)
        .with_bottle("sonoma", 101)
        .with_bottle("x86_64_linux", 102);
    let data = FormulaSpec::new("data", "1").with_bottle("all", 50);
    let upstream = start(Spec { formulae: vec![tool, data], ..Spec::default() });
    let digest = |tag: &str| upstream.expected().into_iter().find(|one| one.tag == tag).unwrap().digest;
    for (client, tag, dependencies) in [
        ("arm64_tahoe", Some("arm64_sequoia"), json!(["lib"])),
        ("arm64_sonoma", None, json!(["lib"])),
        ("sonoma", Some("sonoma"), json!(["lib"])),
        ("x86_64_linux", Some("x86_64_linux"), json!(["lib", "zed"])),
        ("arm64_linux", None, json!(["lib", "extra", "zed"])),
    ] {
        let formulae = packages(&upstream, client);
        let expected = json!({
            "pkg_version": "1.0_1",
            "rebuild": 2,
            "tag": tag,
            "sha256": tag.map(digest),
            "dependencies": dependencies,
        });
        assert_eq!(formulae["tool"], expected, "{client}");
        assert_eq!(formulae["data"]["tag"], "all", "{client}");
        assert_eq!(formulae["data"]["sha256"], digest("all"), "{client}");
    }
}

#[test]
fn the_file_for_all_platforms_leaves_the_choice_to_the_client() {
    let upstream = start(Spec::demo(1));
    let payload = payload(&upstream, "/api/formula.jws.json");
    let all = payload.as_array().unwrap();
    assert_eq!(all.len(), 40);
    let glib = all.iter().find(|one| one["name"] == "glib").unwrap();
    assert_eq!(glib["dependencies"], json!(["gettext", "pcre2"]));
    assert_eq!(glib["variations"]["x86_64_linux"], json!(["gettext", "pcre2", "util-linux"]));
    assert_eq!(glib["uses_from_macos"], json!([{"flex": "build"}, "libffi"]));
    let bottles = upstream.expected();
    let own = bottles.iter().find(|one| one.formula == "glib" && one.tag == "arm64_sonoma").unwrap();
    assert_eq!(glib["sha256"]["arm64_sonoma"], own.digest);
}

#[test]
fn the_paths_are_those_that_are_served() {
    let upstream = start(Spec::demo(1));
    let paths = upstream.api_paths();
    assert_eq!(paths.len(), 11);
    for name in ["formula.json", "cask.jws.json", "internal/packages.arm64_linux.jws.json"] {
        assert!(paths.contains(&format!("/api/{name}")), "{name}");
    }
    let origin = upstream.api_url();
    let origin = origin.strip_suffix("/api").unwrap();
    let dates: Vec<_> = paths
        .iter()
        .map(|path| {
            let reply = get(&format!("{origin}{path}"), &[]);
            assert_eq!(reply.status, 200, "{path}");
            assert_eq!(Some(&reply.body), upstream.api_file(path).as_ref(), "{path}");
            reply.header("last-modified").unwrap().to_owned()
        })
        .collect();
    assert!(dates.iter().all(|date| *date == dates[0]), "{dates:?}");
}

#[test]
fn an_unlisted_formula_is_in_the_registry_alone() {
    let listed = Spec::uniform(1, 2, 100, &["x86_64_linux"]);
    let alone = start(listed.clone());
    let mut spec = listed;
    spec.formulae.push(FormulaSpec::portable_ruby("3.4.8"));
    let upstream = start(spec);
    assert_eq!(upstream.api_paths(), alone.api_paths());
    for path in upstream.api_paths() {
        assert_eq!(upstream.api_file(&path), alone.api_file(&path), "{path}");
    }
    assert_eq!(upstream.expected(), alone.expected());
    assert_eq!(alone.unlisted(), []);

    let ruby = upstream.unlisted();
    let mut tags: Vec<&str> = ruby.iter().map(|one| one.tag.as_str()).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["arm64_big_sur", "arm64_linux", "catalina", "x86_64_linux"]);
    for bottle in &ruby {
        assert!((20_000..50_000).contains(&bottle.size));
        assert!(bottle.key.starts_with("v2/homebrew/core/portable-ruby/blobs/sha256:"));
        assert_eq!(sha256(&fetch(&upstream, bottle, &[]).body), bottle.digest);
        assert_eq!(index(&upstream, bottle).body, upstream.index_bytes("portable-ruby"));
    }
    let entries = index(&upstream, &ruby[0]).json()["manifests"].as_array().unwrap().len();
    assert_eq!(entries, 4);
}
