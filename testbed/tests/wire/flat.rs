//! The older way of asking for bottles: flat files at a domain's root.

use axum::http::header;
use testbed::Upstream;
use testbed::brew::BrewError;

use crate::brew::spec;
use crate::mirror::Mirror;

#[tokio::test]
async fn a_flat_file_is_asked_for_three_times_and_its_index_with_a_token() {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::empty().await;
    mirror.fill_api(&upstream);
    mirror.fill_flat(&upstream);
    let mut brew = mirror.client("arm64_tahoe");
    brew.update().await.unwrap();
    mirror.forget();
    let made = brew.install_flat("made@2").await.unwrap();
    assert_eq!((made.formula.as_str(), made.bytes, made.dependencies.len()), ("made@2", 4001, 1));
    let (lib, own) =
        ("/lib%2B%2B-1.0.arm64_sequoia.bottle.tar.gz", "/made%402-2.1_3.arm64_tahoe.bottle.1.tar.gz");
    assert_eq!(
        mirror.asked(),
        [
            format!("HEAD {lib}"),
            format!("GET {lib}"),
            format!("GET {lib}"),
            "GET /libxx/manifests/1.0".to_owned(),
            format!("HEAD {own}"),
            format!("GET {own}"),
            format!("GET {own}"),
            "GET /made/2/manifests/2.1_3-1".to_owned(),
        ]
    );
    let token = "Bearer QQ==";
    assert_eq!(mirror.headers(&header::AUTHORIZATION), ["", "", "", token, "", "", "", token]);
}

#[tokio::test]
async fn an_older_client_asks_for_no_index_of_a_flat_file() {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::empty().await;
    mirror.fill_api(&upstream);
    mirror.fill_flat(&upstream);
    let mut brew = mirror.client("x86_64_linux").older();
    brew.update().await.unwrap();
    mirror.forget();
    brew.install_flat("zed").await.unwrap();
    let file = "/zed-1.3.all.bottle.tar.gz";
    assert_eq!(mirror.asked(), [format!("HEAD {file}"), format!("GET {file}"), format!("GET {file}")]);
}

#[tokio::test]
async fn a_flat_file_that_is_missing_or_wrong_is_refused() {
    let upstream = Upstream::start(spec()).await.unwrap();
    let mirror = Mirror::empty().await;
    mirror.fill_api(&upstream);
    mirror.fill_flat(&upstream);
    let mut brew = mirror.client("x86_64_linux");
    brew.update().await.unwrap();
    let file = "zed-1.3.all.bottle.tar.gz";
    mirror.put(file, &[0; 2000]);
    let error = brew.install_flat("zed").await.unwrap_err();
    assert!(matches!(error, BrewError::WrongDigest { .. }), "{error}");
    mirror.remove("zed/manifests/1.3");
    let error = brew.install_flat("zed").await.unwrap_err();
    assert!(matches!(error, BrewError::NoIndex { status: 404, .. }), "{error}");
    mirror.remove(file);
    let error = brew.install_flat("zed").await.unwrap_err();
    assert!(matches!(error, BrewError::NoBlob { status: 404, .. }), "{error}");
}
