//! API files, behind the gap.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::airgap::Since;
use common::bottle::{BottleTag, Digest};
use common::dead_letter::{Failure, Reason};
use common::manifest::{self, State};
use common::publication::{ApiFile, ApiPath, Need, NeededBottle, Published, Scope, Set, file_key};
use common::receipt::What;
use common::registry::Validators;
use common::store::Condition;

use crate::fixture::Fixture;

use super::{Gap, after, edit, small, unpack};

/// A set of API files that clients of a mirror read, though it lacks a bottle: one that was
/// given up on, or that nobody knows of.
async fn publish(fixture: &Fixture, run: &str, clients: &[&str], scopes: &[Scope], lacking: Option<Digest>) {
    let (store, clients) = (&*fixture.store, clients.iter().map(|tag| tag.parse().unwrap()));
    let clients: Vec<BottleTag> = clients.collect();
    let mut files = BTreeMap::new();
    for path in ApiPath::all(&clients) {
        // What names no bottle is the same in every set.
        let text = if path.scope() == Scope::NoBottles { path.to_string() } else { format!("{run} {path}") };
        let bytes = Bytes::from(text.repeat(1000));
        let sha256 = Digest::of(&bytes);
        let size = bytes.len() as u64;
        store.put(&file_key(&sha256).unwrap(), bytes.into(), Condition::Always).await.unwrap();
        files.insert(path, ApiFile { sha256, size, modified: None, validators: Validators::default() });
    }
    let (manifest, _) = manifest::load(store).await.unwrap();
    let need = |(path, image): (&_, &manifest::Image)| Need {
        image: Clone::clone(path),
        index: image.indexes.keys().next().cloned(),
        flat_index: false,
        bottles: image
            .bottles
            .iter()
            .map(|(digest, record)| NeededBottle {
                digest: *digest,
                clients: (0..)
                    .zip(&clients)
                    .filter(|(_, tag)| record.tags.contains(tag))
                    .map(|(at, _)| at)
                    .collect(),
                flat: Vec::new(),
            })
            .collect(),
    };
    let mut needs: Vec<Need> = manifest.images.iter().map(need).collect();
    let is_known = |digest: &Digest| manifest.images.values().any(|image| image.bottles.contains_key(digest));
    if let Some(digest) = lacking.filter(|digest| !is_known(digest)) {
        needs[0].bottles.push(NeededBottle { digest, clients: vec![0], flat: Vec::new() });
    }
    let run: common::run::RunId = run.parse().unwrap();
    let at = fixture.clock.now();
    let set = Set { run: run.clone(), at, clients, files, needs };
    set.save(store).await.unwrap();
    edit(store, |manifest| {
        let at = manifest.tick(at);
        for scope in scopes {
            manifest.publication.published.insert(scope.clone(), Published { run: run.clone(), at });
        }
        let record = lacking
            .and_then(|digest| manifest.images.values_mut().find_map(|image| image.bottles.get_mut(&digest)));
        if let Some(record) = record {
            record.state = State::Dead(Failure::new(Reason::NotFound, "gone", 1, at));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_files_are_published_behind_the_gap_to_those_who_read_them_at_the_source() {
    let gap = Gap::new(small()).await;
    let (arm, linux): (BottleTag, BottleTag) =
        ("arm64_tahoe".parse().unwrap(), "x86_64_linux".parse().unwrap());
    let scope = |tag: &BottleTag| Scope::Client(tag.clone());
    let dead: Digest = gap.source.digest_of("uniform-00002", "x86_64_linux").parse().unwrap();
    let clients = ["arm64_tahoe", "x86_64_linux"];
    publish(&gap.source, "20990101T000000Z-aaaa", &clients, &[scope(&linux), Scope::AllClients], Some(dead))
        .await;
    publish(&gap.source, "20990102T000000Z-bbbb", &clients, &[scope(&arm), Scope::NoBottles], None).await;
    // Both sets have the files that name no bottle; these are carried once.
    let exported = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!(exported.bottles.bottles, 5);
    let names: Vec<String> = unpack(&gap.path("0.tar.zst")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert_eq!(gap.import("0.tar.zst").await.missing.bottles, 0);
    let manifest = gap.target.manifest().await;
    // The source published it though one bottle is dead; so it is here.
    let records = manifest.images.values().filter_map(|image| image.bottles.get(&dead));
    let states: Vec<_> = records.map(|record| &record.state).collect();
    assert!(matches!(states[..], [State::Dead(_)]), "{states:?}");
    assert_same_is_read(&gap).await;

    // What was published before is not carried again; one bottle of it was never planned.
    let unplanned = Some(Digest::of(b"never planned"));
    publish(&gap.source, "20990103T000000Z-cccc", &clients, &[scope(&arm)], unplanned).await;
    let delta = gap.export(after(&exported), "1.tar.zst").await;
    assert_eq!(delta.api_files, 7);
    gap.import("1.tar.zst").await;
    assert_same_is_read(&gap).await;
}

/// Each scope reads the same on both sides, and the files are there.
async fn assert_same_is_read(gap: &Gap) {
    let (ours, theirs) = (gap.target.manifest().await.publication, gap.source.manifest().await.publication);
    assert!(ours.staged.is_empty(), "{:?}", ours.staged);
    let runs = |of: &BTreeMap<Scope, Published>| -> Vec<_> {
        of.iter().map(|(scope, published)| (scope.clone(), published.run.clone())).collect()
    };
    assert_eq!(runs(&ours.published), runs(&theirs.published));
    for (scope, published) in &theirs.published {
        let set = Set::load(&*gap.target.store, &published.run).await.unwrap().unwrap();
        assert_eq!(Set::load(&*gap.source.store, &published.run).await.unwrap().as_ref(), Some(&set));
        for (path, file) in set.files_of(scope) {
            let object = gap.target.store.get(&path.key().unwrap()).await.unwrap().unwrap();
            assert_eq!(Digest::of(&object.body), file.sha256, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_is_gone_stops_the_export_by_name() {
    let gap = Gap::new(small()).await;
    let run = "20260101T000000Z-aaaa";
    publish(&gap.source, run, &["arm64_tahoe"], &[Scope::NoBottles], None).await;
    let key = common::publication::set_key(&run.parse().unwrap()).unwrap();
    gap.source.store.delete(&[key]).await.unwrap();
    let error = gap.try_export(&Since::Start, &gap.path("x.tar.zst"), None).await.unwrap_err();
    assert!(error.to_string().contains(run), "{error}");
    assert_eq!(std::fs::read_dir(gap.carried.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_published_behind_the_gap_is_said_and_why() {
    let gap = Gap::new(small()).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    let imported = gap.import("0.tar.zst").await;
    assert_eq!(imported.publication.waiting, []);
    assert!(imported.publication.published.contains(&Scope::AllClients), "{:?}", imported.publication);
    // A bottle that was there when the source published, and came to be lost there since.
    let clients = ["arm64_tahoe", "x86_64_linux"];
    let scopes = clients.map(|tag| Scope::Client(tag.parse().unwrap()));
    publish(&gap.source, "20990101T000000Z-aaaa", &clients, &scopes, None).await;
    let digest = gap.source.digest_of("uniform-00002", "x86_64_linux").parse().unwrap();
    edit(&*gap.target.store, |manifest| {
        manifest.images.values_mut().for_each(|image| drop(image.bottles.remove(&digest)));
    })
    .await;
    gap.export(after(&first), "1.tar.zst").await;
    let imported = gap.import("1.tar.zst").await;
    let waiting: Vec<_> =
        imported.publication.waiting.iter().map(|one| (one.client.to_string(), one.describe())).collect();
    assert_eq!(waiting, [("x86_64_linux".to_owned(), "1 not planned".to_owned())]);
    assert_eq!(imported.publication.published, [scopes[0].clone()]);
    // As long as it waits it is said.
    assert_eq!(gap.import("1.tar.zst").await.publication.waiting, imported.publication.waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_behind_the_gap_holds_back_what_bundles_bring() {
    let gap = Gap::new(small()).await;
    let clients = ["arm64_tahoe", "x86_64_linux"];
    let scopes: Vec<Scope> = clients.iter().map(|tag| Scope::Client(tag.parse().unwrap())).collect();
    let mut since = Since::Start;
    for number in 1..=9 {
        publish(&gap.source, &format!("2099010{number}T000000Z-aaaa"), &clients, &scopes, None).await;
        let name = format!("{number}.tar.zst");
        since = after(&gap.export(since, &name).await);
        let imported = gap.import(&name).await;
        let is_held_back = number > 2;
        assert_eq!(imported.held_since.is_some(), is_held_back);
        assert_eq!(imported.publication.published.is_empty(), is_held_back);
        assert_eq!(imported.publication.waiting.len(), if is_held_back { 2 } else { 0 });
        if number == 2 {
            gap.target.order(What::Rollback { clients: Vec::new() }).await;
            gap.target.settle().await;
        }
    }
    // Nothing piles up, and the newest is what is gone on with.
    let staged = gap.target.manifest().await.publication.staged;
    assert!(staged.len() <= 3, "{staged:?}");
    gap.target.order(What::Resume).await;
    gap.target.settle().await;
    assert_same_is_read(&gap).await;
}
