//! What the scripted client refuses, as the real one does.

use testbed::brew::{Brew, BrewError};
use testbed::{Fault, Spec, Times, Upstream};

use crate::brew::spec;
use crate::mirror::Mirror;

const PACKAGES: &str = "api/internal/packages.x86_64_linux.jws.json";
const INDEX: &str = "v2/homebrew/core/zed/manifests/1.3";

/// An upstream, its whole mirror, and a client that has read the API there.
async fn mirrored() -> (Upstream, Mirror, Brew) {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::of(&upstream).await;
    let mut brew = mirror.client("x86_64_linux");
    brew.update().await.unwrap();
    (upstream, mirror, brew)
}

fn blob(mirror: &Mirror) -> String {
    mirror.key("v2/homebrew/core/zed/blobs", "")
}

#[tokio::test]
async fn a_missing_api_file_sends_brew_elsewhere() {
    let (_upstream, mirror, mut brew) = mirrored().await;
    mirror.remove(PACKAGES);
    let error = brew.update().await.unwrap_err();
    assert!(matches!(&error, BrewError::NoApi { path, status: 404 } if path.ends_with(PACKAGES)), "{error}");
    let error = mirror.client("arm64_monterey").check_all(|_| true).await.unwrap_err();
    assert!(matches!(error, BrewError::NoApi { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn only_files_that_no_formula_needs_may_be_missing() {
    let (_upstream, mirror, _) = mirrored().await;
    let mut older = mirror.client("x86_64_linux").older();
    mirror.remove("api/cask.jws.json");
    let update = older.update().await.unwrap();
    assert_eq!(update.missing, ["/api/cask.jws.json"]);
    assert_eq!(update.fresh.len(), 3);
    older.install("app").await.unwrap();
    mirror.remove("api/formula.jws.json");
    let error = older.update().await.unwrap_err();
    assert!(matches!(error, BrewError::NoApi { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn a_file_whose_signature_is_broken_is_refused_and_the_earlier_copy_stays() {
    let (_upstream, mirror, mut brew) = mirrored().await;
    let held = brew.formulae();
    for (old, new) in [("1.3", "1.4"), ("\"signatures\"", "\"signature\""), ("{", "")] {
        mirror.alter(PACKAGES, old, new);
        let mut fresh = mirror.client("x86_64_linux");
        let error = fresh.update().await.unwrap_err();
        assert!(matches!(&error, BrewError::BadSignature { path } if path.ends_with(PACKAGES)), "{error}");
        assert_eq!(fresh.formulae(), [] as [&str; 0]);
    }
    mirror.put(PACKAGES, b"<html>");
    assert!(matches!(brew.update().await, Err(BrewError::BadSignature { .. })));
    assert_eq!(brew.formulae(), held);

    let (_upstream, mirror, _) = mirrored().await;
    mirror.alter("api/cask.jws.json", "a-cask", "b-cask");
    let error = mirror.client("x86_64_linux").older().update().await.unwrap_err();
    assert!(matches!(&error, BrewError::BadSignature { path } if path == "/api/cask.jws.json"), "{error}");
}

#[tokio::test]
async fn a_missing_index_fails_an_install_also_that_of_a_dependency() {
    let (_upstream, mirror, mut brew) = mirrored().await;
    mirror.remove(INDEX);
    for formula in ["zed", "made@2", "app"] {
        let error = brew.install(formula).await.unwrap_err();
        assert!(
            matches!(&error, BrewError::NoIndex { formula, status: 404, .. } if formula == "zed"),
            "{error}"
        );
    }
    brew.install("lib++").await.unwrap();
    let error = brew.check_all(|_| true).await.unwrap_err();
    assert!(matches!(error, BrewError::NoIndex { .. }), "{error}");
    assert_eq!(brew.check_all(|name| name != "zed").await.unwrap(), 3);
}

#[tokio::test]
async fn an_index_without_the_bottles_entry_is_refused() {
    let (_upstream, mirror, brew) = mirrored().await;
    let digest = blob(&mirror).rsplit_once(':').unwrap().1.to_owned();
    mirror.alter(INDEX, &format!(r#""{digest}""#), &format!(r#""{}""#, "0".repeat(64)));
    let error = brew.install("zed").await.unwrap_err();
    assert!(
        matches!(&error, BrewError::NoEntry { formula, digest: one, reference }
        if formula == "zed" && *one == digest && reference == "1.3.all"),
        "{error}"
    );
}

#[tokio::test]
async fn an_entry_under_another_reference_name_is_refused() {
    let (_upstream, mirror, brew) = mirrored().await;
    mirror.alter(INDEX, r#""1.3.all""#, r#""1.3.all.1""#);
    let error = brew.install("zed").await.unwrap_err();
    assert!(matches!(error, BrewError::NoEntry { .. }), "{error}");
    let rebuilt = "v2/homebrew/core/made/2/manifests/2.1_3-1";
    mirror.alter(rebuilt, "2.1_3.x86_64_linux.1", "2.1_3.x86_64_linux");
    mirror.alter(INDEX, r#""1.3.all.1""#, r#""1.3.all""#);
    let error = brew.install("made@2").await.unwrap_err();
    assert!(matches!(&error, BrewError::NoEntry { formula, .. } if formula == "made@2"), "{error}");
}

#[tokio::test]
async fn a_tab_that_says_too_little_is_refused() {
    for (old, new) in [
        ("sh.brew.tab", "sh.brew.tap"),
        (r#"\"homebrew_version\""#, r#"\"version\""#),
        (r#"\"runtime_dependencies\""#, r#"\"dependencies\""#),
        (r#""{\""#, r#""\""#),
    ] {
        let (_upstream, mirror, brew) = mirrored().await;
        mirror.alter(INDEX, old, new);
        let error = brew.install("zed").await.unwrap_err();
        assert!(matches!(error, BrewError::BadTab { .. }), "{old}: {error}");
    }
}

#[tokio::test]
async fn an_index_that_is_none_is_refused() {
    let (_upstream, mirror, brew) = mirrored().await;
    mirror.put(INDEX, b"<html>");
    let error = brew.install("zed").await.unwrap_err();
    assert!(matches!(error, BrewError::BadIndex { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_missing_or_cut_bottle_is_refused() {
    let (upstream, mirror, mut brew) = mirrored().await;
    let blob = blob(&mirror);
    let mut bytes = upstream.content(blob.rsplit_once(':').unwrap().1).unwrap();
    bytes[1000] ^= 1;
    mirror.put(&blob, &bytes);
    let error = brew.install("app").await.unwrap_err();
    assert!(
        matches!(&error, BrewError::WrongDigest { formula, expected, .. }
        if formula == "zed" && blob.ends_with(expected)),
        "{error}"
    );
    let error = brew.check_all(|_| true).await.unwrap_err();
    assert!(matches!(error, BrewError::WrongDigest { .. }), "{error}");
    mirror.put(&blob, &bytes[..1999]);
    let error = brew.install("zed").await.unwrap_err();
    assert!(matches!(error, BrewError::WrongLength { expected: 2000, got: 1999, .. }), "{error}");
    mirror.alter(INDEX, r#""sh.brew.bottle.size":"2000","#, "");
    let error = brew.install("zed").await.unwrap_err();
    assert!(matches!(error, BrewError::WrongDigest { .. }), "{error}");
    mirror.remove(&blob);
    let error = brew.install("zed").await.unwrap_err();
    assert!(matches!(error, BrewError::NoBlob { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_ruby_is_refused() {
    let (upstream, mirror, brew) = mirrored().await;
    let ruby = upstream.unlisted().remove(0);
    brew.fetch_portable_ruby(&ruby.digest).await.unwrap();
    mirror.put(&ruby.key, b"no ruby");
    let error = brew.fetch_portable_ruby(&ruby.digest).await.unwrap_err();
    assert!(matches!(error, BrewError::WrongDigest { .. }), "{error}");
    mirror.remove(&ruby.key);
    let error = brew.fetch_portable_ruby(&ruby.digest).await.unwrap_err();
    assert!(matches!(error, BrewError::NoBlob { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn an_api_ahead_of_its_bottles_is_noticed() {
    let (upstream, mirror, brew) = mirrored().await;
    let mut next = spec();
    let zed = next.formula_mut("zed").unwrap();
    *zed = testbed::FormulaSpec::new("zed", "1.4").with_bottle("all", 2100);
    upstream.replace(next);
    mirror.fill_api(&upstream);
    let mut fresh = mirror.client("x86_64_linux");
    let error = fresh.check_all(|_| true).await.unwrap_err();
    assert!(matches!(&error, BrewError::NoIndex { formula, .. } if formula == "zed"), "{error}");
    // What was published before is still there for who reads the API later.
    brew.install("zed").await.unwrap();
    mirror.fill(&upstream);
    assert_eq!(mirror.client("x86_64_linux").check_all(|_| true).await.unwrap(), 4);
    brew.install("zed").await.unwrap();
}

#[tokio::test]
async fn no_answer_and_half_an_answer_are_errors_that_name_the_path() {
    let upstream = Upstream::start(Spec::uniform(1, 1, 100, &["x86_64_linux"])).await.unwrap();
    let origin = upstream.api_url().replace("/api", "");
    let mut brew = Brew::new(&origin, "x86_64_linux");
    for fault in [Fault::Truncate { after_bytes: 50 }, Fault::Reset] {
        upstream.faults().set("api:*", fault, Times::First(1));
        let error = brew.update().await.unwrap_err();
        assert!(matches!(&error, BrewError::Transport { path, .. } if path.ends_with(PACKAGES)), "{error}");
    }
    upstream.faults().set("api:*", Fault::Status { code: 503, retry_after: None }, Times::First(1));
    let error = brew.update().await.unwrap_err();
    assert!(matches!(error, BrewError::NoApi { status: 503, .. }), "{error}");
    brew.update().await.unwrap();
    let statuses: Vec<u16> = brew.requests().iter().map(|asked| asked.status).collect();
    assert_eq!(statuses, [0, 0, 503, 200]);
    let error = Brew::new("mirror.example.com", "x86_64_linux").update().await.unwrap_err();
    assert!(error.to_string().contains("no http:// address"), "{error}");
}
