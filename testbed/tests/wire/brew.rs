//! The scripted client against a mirror that lacks nothing.

use std::collections::BTreeMap;

use axum::http::header;
use serde_json::json;
use testbed::brew::{Asked, Brew, BrewError, Installed, Update};
use testbed::{FormulaSpec, Spec, Upstream};

use crate::client::sha256;
use crate::mirror::Mirror;

const PACKAGES: &str = "/api/internal/packages.x86_64_linux.jws.json";

/// `app` needs `made@2` and `lib++`, which `made@2` needs too; on Linux `zed` as well.
pub(crate) fn spec() -> Spec {
    let formulae = vec![
        FormulaSpec::new("lib++", "1.0").with_bottle("x86_64_linux", 3000).with_bottle("arm64_sequoia", 3001),
        FormulaSpec::new("zed", "1.3").with_bottle("all", 2000),
        FormulaSpec::new("made@2", "2.1")
            .with_revision(3)
            .with_rebuild(1)
            .with_dependencies(&["lib++"])
            .with_uses_from_macos([json!("zed"), json!({"tool": "build"})])
            .with_bottle("x86_64_linux", 4000)
            .with_bottle("arm64_tahoe", 4001),
        FormulaSpec::new("app", "0.9")
            .with_dependencies(&["made@2", "lib++"])
            .with_bottle("x86_64_linux", 5000)
            .with_bottle("arm64_tahoe", 5001),
        FormulaSpec::new("mac-only", "1").with_bottle("sonoma", 100),
        FormulaSpec::portable_ruby("3.4.8"),
    ];
    Spec { seed: 3, formulae, ..Spec::default() }
}

fn digest(upstream: &Upstream, formula: &str, tag: &str) -> String {
    let mut all = upstream.expected().into_iter();
    all.find(|one| one.formula == formula && one.tag == tag).unwrap().digest
}

/// Names and tags, what comes first first.
fn order(installed: &Installed) -> Vec<(&str, &str)> {
    let own = std::iter::once(installed);
    installed.dependencies.iter().chain(own).map(|one| (one.formula.as_str(), one.tag.as_str())).collect()
}

#[tokio::test]
async fn a_formula_is_installed_after_what_it_needs() {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::of(&upstream).await;
    let mut brew = mirror.client("x86_64_linux");
    assert_eq!(brew.formulae(), [] as [&str; 0]);
    brew.update().await.unwrap();
    assert_eq!(brew.formulae(), ["app", "lib++", "made@2", "zed"]);
    let app = brew.install("app").await.unwrap();
    let linux = "x86_64_linux";
    assert_eq!(order(&app), [("lib++", linux), ("zed", "all"), ("made@2", linux), ("app", linux)]);
    assert_eq!((app.bytes, app.sha256), (5000, digest(&upstream, "app", linux)));

    let blob = |image: &str, formula: &str, tag: &str| {
        format!("GET /v2/homebrew/core/{image}/blobs/sha256:{}", digest(&upstream, formula, tag))
    };
    let asked = [
        format!("GET {PACKAGES}"),
        "GET /v2/homebrew/core/libxx/manifests/1.0".to_owned(),
        blob("libxx", "lib++", linux),
        "GET /v2/homebrew/core/zed/manifests/1.3".to_owned(),
        blob("zed", "zed", "all"),
        "GET /v2/homebrew/core/made/2/manifests/2.1_3-1".to_owned(),
        blob("made/2", "made@2", linux),
        "GET /v2/homebrew/core/app/manifests/0.9".to_owned(),
        blob("app", "app", linux),
    ];
    assert_eq!(mirror.asked(), asked);
    let requests: Vec<String> =
        brew.requests().iter().map(|Asked { method, path, .. }| format!("{method} {path}")).collect();
    assert_eq!(requests, asked);
    assert!(brew.requests().iter().all(|asked| asked.status == 200));
}

#[tokio::test]
async fn its_headers_are_those_of_brew() {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::of(&upstream).await;
    let ruby = &upstream.unlisted()[0];
    let fetch = async |mut brew: Brew| {
        mirror.forget();
        brew.update().await.unwrap();
        brew.install("zed").await.unwrap();
        let bytes = brew.fetch_portable_ruby(&ruby.digest).await.unwrap();
        assert_eq!(sha256(&bytes), ruby.digest);
        assert_eq!(mirror.asked()[3], format!("GET /{}", ruby.key));
        mirror.headers(&header::AUTHORIZATION)
    };
    assert_eq!(fetch(mirror.client("x86_64_linux")).await, ["", "", "", ""]);
    assert_eq!(mirror.headers(&header::ACCEPT_ENCODING), ["deflate, gzip, br, zstd", "", "", ""]);
    let index = "application/vnd.oci.image.index.v1+json";
    assert_eq!(mirror.headers(&header::ACCEPT), ["*/*", index, "*/*", "*/*"]);
    assert_eq!(mirror.headers(&header::RANGE), ["", "", "", ""]);
    let with_token = mirror.client("x86_64_linux").with_token();
    assert_eq!(fetch(with_token).await, ["", "Bearer QQ==", "", "Bearer QQ=="]);
}

#[tokio::test]
async fn a_fresh_machine_asks_for_ruby_before_anything_else() {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::of(&upstream).await;
    let ruby = &upstream.unlisted()[0];
    let mut brew = mirror.client("x86_64_linux").fresh(&ruby.digest);
    brew.update().await.unwrap();
    brew.update().await.unwrap();
    let api = format!("GET {PACKAGES}");
    assert_eq!(mirror.asked(), [format!("GET /{}", ruby.key), api.clone(), api]);
    // Without it nothing else is asked for, and the next try begins with it again.
    mirror.remove(&ruby.key);
    mirror.forget();
    let mut brew = mirror.client("x86_64_linux").fresh(&ruby.digest);
    for _ in 0..2 {
        let error = brew.update().await.unwrap_err();
        assert!(matches!(error, BrewError::NoBlob { status: 404, .. }), "{error}");
    }
    assert_eq!(mirror.asked(), [format!("GET /{}", ruby.key), format!("GET /{}", ruby.key)]);
}

#[tokio::test]
async fn an_unchanged_file_is_not_read_again() {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::of(&upstream).await;
    let mut brew = mirror.client("x86_64_linux");
    let fresh = Update { fresh: vec![PACKAGES.to_owned()], ..Update::default() };
    let unchanged = Update { unchanged: vec![PACKAGES.to_owned()], ..Update::default() };
    assert_eq!(brew.update().await.unwrap(), fresh);
    assert_eq!(brew.update().await.unwrap(), unchanged);
    assert_eq!(brew.formulae().len(), 4);
    assert_eq!(mirror.headers(&header::IF_MODIFIED_SINCE)[0], "");
    assert_ne!(mirror.headers(&header::IF_MODIFIED_SINCE)[1], "");
    assert_eq!(brew.requests()[1].status, 304);
}

#[tokio::test]
async fn the_older_generation_reads_four_files_and_installs_the_same() {
    let upstream = Upstream::start(Spec::demo(1)).await.unwrap();
    let mirror = Mirror::of(&upstream).await;
    for tag in ["arm64_tahoe", "arm64_sonoma", "sonoma", "x86_64_linux", "arm64_linux"] {
        let (mut current, mut older) = (mirror.client(tag), mirror.client(tag).older());
        current.update().await.unwrap();
        let update = older.update().await.unwrap();
        let files = ["formula", "cask", "formula_tap_migrations", "cask_tap_migrations"];
        assert_eq!(update.fresh, files.map(|name| format!("/api/{name}.jws.json")));
        assert_eq!(older.update().await.unwrap().unchanged.len(), 4);
        assert_eq!(current.formulae(), older.formulae(), "{tag}");
        for formula in ["glib", "python@3.14", "wget"] {
            let (one, other) =
                (current.install(formula).await.unwrap(), older.install(formula).await.unwrap());
            assert_eq!(one, other, "{tag}");
        }
    }
}

#[tokio::test]
async fn a_client_takes_the_bottle_that_brew_takes() {
    let upstream = Upstream::start(Spec::demo(1)).await.unwrap();
    let mirror = Mirror::of(&upstream).await;
    let mut brew = mirror.client("arm64_tahoe");
    brew.update().await.unwrap();
    let chosen = |formula: &'static str| {
        let brew = &brew;
        async move { brew.install(formula).await.unwrap().tag }
    };
    assert_eq!(chosen("zlib").await, "arm64_tahoe");
    assert_eq!(chosen("bison").await, "arm64_sequoia");
    assert_eq!(chosen("ca-certificates").await, "all");
    let error = brew.install("util-linux").await.unwrap_err();
    assert!(matches!(&error, BrewError::NoBottle { formula, tag }
        if formula == "util-linux" && tag == "arm64_tahoe"));
}

#[tokio::test]
async fn all_that_is_wanted_is_checked() {
    let upstream = Upstream::start(Spec::demo(1)).await.unwrap();
    let mirror = Mirror::of(&upstream).await;
    let mut brew = mirror.client("x86_64_linux");
    assert_eq!(brew.check_all(|_| true).await.unwrap(), 40);
    let mut by_kind = BTreeMap::new();
    for asked in brew.requests() {
        let kind = ["/api/", "/manifests/", "/blobs/"].into_iter().find(|part| asked.path.contains(part));
        *by_kind.entry(kind.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(by_kind, BTreeMap::from([("/api/", 1), ("/manifests/", 40), ("/blobs/", 40)]));
    let mut tahoe = mirror.client("arm64_tahoe");
    assert_eq!(tahoe.check_all(|name| name.starts_with("lib")).await.unwrap(), 7);
}

#[tokio::test]
async fn a_mirror_may_be_below_a_path() {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::empty().await;
    for path in upstream.api_paths() {
        mirror.put(&format!("team{path}"), &upstream.api_file(&path).unwrap());
    }
    let mut brew = Brew::new(&format!("{}/team/", mirror.url), "x86_64_linux");
    // The server compresses and dates only what is below its own /api/.
    brew.update().await.unwrap();
    brew.update().await.unwrap();
    assert_eq!(mirror.asked(), [format!("GET /team{PACKAGES}"), format!("GET /team{PACKAGES}")]);
    assert_eq!(mirror.headers(&header::IF_MODIFIED_SINCE), ["", ""]);
}

#[tokio::test]
async fn a_reader_notices_that_upstream_changed_between_its_reads() {
    let upstream = Upstream::start(Spec::uniform(1, 1, 100, &["x86_64_linux"])).await.unwrap();
    let next = || Spec::uniform(1, 2, 100, &["x86_64_linux"]);
    let origin = upstream.api_url().replace("/api", "");
    // The look-alike itself serves the API as a mirror does, compressed.
    let mut older = Brew::new(&origin, "x86_64_linux").older();
    assert_eq!(older.update().await.unwrap().fresh.len(), 4);
    upstream.replace_after("api:/api/cask.jws.json", 1, next());
    let update = older.update().await.unwrap();
    let files = |names: [&str; 2]| names.map(|name| format!("/api/{name}.jws.json"));
    assert_eq!(update.unchanged, files(["formula", "cask"]));
    assert_eq!(update.fresh, files(["formula_tap_migrations", "cask_tap_migrations"]));
    assert_eq!(older.formulae().len(), 1);
    assert_eq!(older.update().await.unwrap().fresh, files(["formula", "cask"]));
    assert_eq!(older.formulae().len(), 2);
}
