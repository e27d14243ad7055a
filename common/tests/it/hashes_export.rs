//! What a mirror holds, told in the Python system's words.

use common::hash_file::{HashFile, Versions, export};
use testbed::FormulaSpec;

use crate::fixture::Fixture;
use crate::hashes::{Old, fetches, held, import, importer, keys, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_imported_marks_the_same_bottles() {
    let mut spec = spec();
    let fixture = Fixture::new(spec.clone()).await;
    fixture.sync().await;
    // A bottle of before, and one that was replaced under its very name.
    spec.formulae[0] = FormulaSpec::new("openssl@3", "3.7.0").with_bottle("arm64_tahoe", 2_000);
    spec.formulae[1].bottles[0].content = 77;
    fixture.testbed.replace(spec);
    fixture.sync().await;
    let before = held(&fixture).await;
    assert_eq!(before.len(), 9);
    let manifest = fixture.manifest().await;
    let mut bytes = Vec::new();
    let versions = Versions::read(&*fixture.store, &manifest).await.unwrap();
    let exported = export(&manifest, &versions, fixture.clock.now(), &mut bytes).unwrap();
    assert_eq!((exported.entries, exported.other_taps), (10, 0));

    fixture.store.delete(&[common::manifest::KEY.parse().unwrap()]).await.unwrap();
    fixture.testbed.log().clear();
    let report = importer(&fixture).import(HashFile::parse(&bytes).unwrap()).await.unwrap();
    assert_eq!((report.held.bottles, report.skipped.len()), (9, 0));
    fixture.settle().await;
    let after = held(&fixture).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    // Of the one whose name another has the version is made up, and of those that upstream
    // doesn't list any more no key tells the rebuild.
    let others: Vec<_> = before.iter().filter(|(key, what)| after[*key] != **what).collect();
    let is_known = |what: &str| what.starts_with("gtk+3 ") || what.starts_with("openssl@3 3.6.0_1-2 ");
    assert!(others.len() == 3 && others.iter().all(|(_, what)| is_known(what)), "{others:?} of {after:?}");
    fixture.sync().await;
    assert_eq!(fetches(&fixture), 0);
}

/// A mirror's own words for what it holds.
async fn exported(fixture: &Fixture) -> HashFile {
    let manifest = fixture.manifest().await;
    let versions = Versions::read(&*fixture.store, &manifest).await.unwrap();
    let mut bytes = Vec::new();
    export(&manifest, &versions, fixture.clock.now(), &mut bytes).unwrap();
    HashFile::parse(&bytes).unwrap()
}

/// Takes the mirror away, and leaves what the old system had.
async fn forget_mirror(fixture: &Fixture) {
    for key in keys(fixture, "").await {
        if key.starts_with("v2/") || key == common::manifest::KEY {
            fixture.remove(&key).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_names_bottles_as_the_file_did_that_was_imported() {
    let fixture = Fixture::new(spec()).await;
    let old = Old::of(&fixture, &spec()).await;
    import(&fixture, &old).await;
    fixture.settle().await;
    fixture.sync().await;
    let file = exported(&fixture).await;
    assert_eq!(file.entries, old.file().entries);

    // The same where only the dated folders are: from its words, and from those that it
    // has while the image indexes are not there, which have the rebuild in the version.
    for has_indexes in [true, false] {
        let file = if has_indexes {
            file.clone()
        } else {
            import(&fixture, &old).await;
            fixture.settle().await;
            let file = exported(&fixture).await;
            let key = "openssl@3-3.6.0_1-2-arm64_tahoe".parse().unwrap();
            assert!(file.entries.contains_key(&key), "{:?}", file.entries.keys());
            file
        };
        forget_mirror(&fixture).await;
        let report = importer(&fixture).import(file).await.unwrap();
        assert_eq!((report.adopted.bottles, report.copied.bottles, report.skipped.len()), (6, 1, 0));
        forget_mirror(&fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_can_not_be_read_leaves_the_rebuild_in_the_version() {
    let fixture = Fixture::new(spec()).await;
    fixture.sync().await;
    let index = "v2/homebrew/core/openssl/3/manifests/3.6.0_1-2";
    let (plain, whole) = ("openssl@3-3.6.0_1-arm64_tahoe", "openssl@3-3.6.0_1-2-arm64_tahoe");
    let has = |file: &HashFile, key: &str| file.entries.contains_key(&key.parse().unwrap());
    let file = exported(&fixture).await;
    assert!(has(&file, plain) && !has(&file, whole));
    for body in [&b"{\"manifests\": []}"[..], b"<html>", &vec![b' '; 5 << 20]] {
        fixture.overwrite(index, body).await;
        let file = exported(&fixture).await;
        assert!(has(&file, whole) && !has(&file, plain));
    }
    fixture.remove(index).await;
    assert!(has(&exported(&fixture).await, whole));
}
