//! Verify: what clients were told is there.

use std::collections::BTreeMap;

use common::bottle::{Digest, ImagePath, ObjectKey};
use common::dead_letter::{Failure, Reason};
use common::manifest::State;
use common::publication::{ApiFile, ApiPath, Need, NeededBottle, Published, Scope, Set, file_key, set_key};
use common::registry::Validators;
use common::run::RunId;
use common::verify::{Depth, Kind, Subject};
use jiff::Timestamp;

use crate::fixture::Fixture;
use crate::verify::{found, mirrored, only, tool};

const IMAGE: &str = "v2/homebrew/core/tool";
const INDEX: &str = "v2/homebrew/core/tool/manifests/1.0";
const LINUX: &str = "x86_64_linux";
const TAHOE: &str = "arm64_tahoe";
const RUN: &str = "20260101T000000000Z-abcd";

/// The API files of the two clients of `tool`.
fn files() -> BTreeMap<ApiPath, Vec<u8>> {
    let clients = [LINUX, TAHOE].map(|tag| tag.parse().unwrap());
    ApiPath::all(&clients)
        .into_iter()
        .map(|path| (path.clone(), format!("{path}: signed").into_bytes()))
        .collect()
}

/// What `tool` needs of the mirror.
pub(crate) fn set(fixture: &Fixture, run: &str) -> Set {
    let api_file = |bytes: &[u8]| ApiFile {
        sha256: Digest::of(bytes),
        size: bytes.len() as u64,
        modified: None,
        validators: Validators::default(),
    };
    let needed = |tag, at| NeededBottle {
        digest: fixture.digest_of("tool", tag).parse().unwrap(),
        clients: vec![at],
        flat: Vec::new(),
    };
    Set {
        run: run.parse().unwrap(),
        at: Timestamp::UNIX_EPOCH,
        clients: vec![LINUX.parse().unwrap(), TAHOE.parse().unwrap()],
        files: files().iter().map(|(path, bytes)| (path.clone(), api_file(bytes))).collect(),
        needs: vec![Need {
            image: IMAGE.parse().unwrap(),
            index: Some("1.0".parse().unwrap()),
            flat_index: false,
            bottles: vec![needed(LINUX, 0), needed(TAHOE, 1)],
        }],
    }
}

/// A mirror that has published what it holds.
pub(crate) async fn published() -> Fixture {
    let fixture = mirrored(tool()).await;
    let set = set(&fixture, RUN);
    set.save(&*fixture.store).await.unwrap();
    for (path, bytes) in files() {
        fixture.overwrite(path.key().unwrap().as_str(), &bytes).await;
        fixture.overwrite(file_key(&Digest::of(&bytes)).unwrap().as_str(), &bytes).await;
    }
    fixture
        .change_manifest(|manifest| {
            let publication = &mut manifest.publication;
            for scope in set.scopes() {
                let published = Published { run: set.run.clone(), at: Timestamp::UNIX_EPOCH };
                publication.published.insert(scope, published);
            }
            publication.files = set.files.iter().map(|(path, file)| (path.clone(), file.sha256)).collect();
        })
        .await;
    fixture
}

fn scopes(texts: &[&str]) -> Vec<Scope> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_and_held_is_sound() {
    let fixture = published().await;
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound && report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!((report.checked.api_files, report.checked.scopes), (7, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_file_is_compared_to_the_byte() {
    let fixture = published().await;
    let key = "api/internal/packages.arm64_tahoe.jws.json";
    fixture.overwrite(key, b"signed by nobody").await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::WrongChecksum, Subject::ApiFile, key.to_owned())]);
    assert_eq!(only(&report).found.unwrap().sha256, Some(Digest::of(b"signed by nobody")));
    fixture.remove(key).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::Missing, Subject::ApiFile, key.to_owned())]);
    assert!(!report.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_file_that_settle_wrote_before_the_manifest_is_unfinished() {
    let fixture = published().await;
    let path: ApiPath = "formula.jws.json".parse().unwrap();
    let mut next = set(&fixture, "20260102T000000000Z-abcd");
    next.files.get_mut(&path).unwrap().sha256 = Digest::of(b"the next");
    next.save(&*fixture.store).await.unwrap();
    fixture.overwrite("api/formula.jws.json", b"the next").await;
    fixture.overwrite(file_key(&Digest::of(b"the next")).unwrap().as_str(), b"the next").await;
    // Nobody knows of that set: the file is a wrong one.
    assert_eq!(only(&fixture.verify(Depth::Sizes).await).kind, Kind::WrongChecksum);
    fixture
        .change_manifest(|manifest| {
            let staged = common::publication::Staged {
                run: next.run.clone(),
                at: Timestamp::UNIX_EPOCH,
                scopes: next.scopes(),
                despite_dead: std::collections::BTreeSet::new(),
            };
            manifest.publication.stage(staged);
        })
        .await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::Unfinished, Subject::ApiFile, "api/formula.jws.json".to_owned())]);
    assert!(report.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_file_of_no_set_is_wrong_unless_a_settle_is_at_it() {
    let fixture = published().await;
    let path: ApiPath = "internal/packages.sonoma.jws.json".parse().unwrap();
    let key = path.key().unwrap();
    let bytes = b"sonoma: signed";
    fixture.overwrite(key.as_str(), bytes).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::OfNoSet, Subject::ApiFile, key.to_string())]);
    assert!(!report.sound && !report.is_repairable());
    // The first settle of a new client, before the manifest says so.
    let mut next = set(&fixture, "20260102T000000000Z-abcd");
    next.clients.push("sonoma".parse().unwrap());
    let file = ApiFile {
        sha256: Digest::of(bytes),
        size: bytes.len() as u64,
        modified: None,
        validators: Validators::default(),
    };
    fixture.overwrite(file_key(&file.sha256).unwrap().as_str(), bytes).await;
    next.files.insert(path, file);
    next.save(&*fixture.store).await.unwrap();
    let staged = common::publication::Staged {
        run: next.run.clone(),
        at: Timestamp::UNIX_EPOCH,
        scopes: next.scopes(),
        despite_dead: std::collections::BTreeSet::new(),
    };
    fixture.change_manifest(|manifest| manifest.publication.stage(staged)).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::Unfinished, Subject::ApiFile, key.to_string())]);
    assert!(report.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_says_who_was_told_of_it() {
    let fixture = published().await;
    let other = crate::verify::altered(&fixture.object(&fixture.tool_key(TAHOE)).await.unwrap());
    fixture.overwrite(&fixture.tool_key(TAHOE), &other).await;
    let report = fixture.verify(Depth::Bytes).await;
    assert_eq!(only(&report).scopes, scopes(&[TAHOE, "all-clients"]));
    fixture.remove(&fixture.tool_key(TAHOE)).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(
        (only(&report).kind, &only(&report).scopes),
        (Kind::Missing, &scopes(&[TAHOE, "all-clients"]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_were_told_of_must_be_held() {
    let fixture = published().await;
    let image: ImagePath = IMAGE.parse().unwrap();
    let digest: Digest = fixture.digest_of("tool", LINUX).parse().unwrap();
    let key = fixture.tool_key(LINUX);
    let change = async |state: Option<State>| {
        fixture
            .change_manifest(|manifest| {
                let bottles = &mut manifest.images.get_mut(&image).unwrap().bottles;
                match state {
                    Some(state) => bottles.get_mut(&digest).unwrap().state = state,
                    None => drop(bottles.remove(&digest)),
                }
            })
            .await;
        fixture.verify(Depth::Sizes).await
    };
    let queued = change(Some(State::Queued)).await;
    assert_eq!(found(&queued), [(Kind::NotHeld, Subject::Bottle, key.clone())]);
    assert_eq!(only(&queued).scopes, scopes(&[LINUX, "all-clients"]));
    let unknown = change(None).await;
    assert!(!unknown.sound);
    assert_eq!(unknown.count(Kind::NotHeld), 1);
    assert_eq!(unknown.extra.bottles, 1);

    // One that has expired was needed still.
    let fixture = published().await;
    fixture.remove(&key).await;
    fixture
        .change_manifest(|manifest| {
            let bottles = &mut manifest.images.get_mut(&image).unwrap().bottles;
            let record = bottles.get_mut(&digest).unwrap();
            (record.dropped_at, record.superseded_at) =
                (Some(Timestamp::UNIX_EPOCH), Some(Timestamp::UNIX_EPOCH));
        })
        .await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!((report.count(Kind::NotHeld), report.count(Kind::Expired)), (1, 1));
    assert!(!report.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_that_clients_were_told_of_must_be_in_place_and_name_the_bottles() {
    let fixture = published().await;
    let image: ImagePath = IMAGE.parse().unwrap();
    let whole = String::from_utf8(fixture.object(INDEX).await.unwrap()).unwrap();
    fixture.change_manifest(|manifest| manifest.images.get_mut(&image).unwrap().indexes.clear()).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(report.count(Kind::NotHeld), 1, "{:#?}", report.findings);
    assert_eq!(report.findings[0].key.as_str(), INDEX);

    // While a newer one waits, the one in place is what clients read.
    let fixture = published().await;
    let digest = fixture.digest_of("tool", TAHOE);
    fixture.overwrite("_sync/runs/r/staged/x.json", whole.as_bytes()).await;
    fixture
        .change_manifest(|manifest| {
            let index = manifest.images.get_mut(&image).unwrap().indexes.values_mut().next().unwrap();
            index.staged = Some("_sync/runs/r/staged/x.json".parse().unwrap());
        })
        .await;
    assert!(fixture.verify(Depth::Sizes).await.sound);
    fixture.overwrite(INDEX, whole.replace(&digest, &"0".repeat(64)).as_bytes()).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::NotHeld, Subject::Index, INDEX.to_owned())]);
    assert!(only(&report).detail.as_ref().unwrap().contains(&digest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flat_names_that_clients_were_told_of_must_be_there() {
    let fixture = published().await;
    let flat: ObjectKey = "tool-1.0.x86_64_linux.bottle.tar.gz".parse().unwrap();
    let mut set = set(&fixture, RUN);
    set.needs[0].bottles[0].flat = vec![flat.clone()];
    set.needs[0].flat_index = true;
    set.save(&*fixture.store).await.unwrap();
    let report = fixture.verify(Depth::Sizes).await;
    let expected = [
        (Kind::NotHeld, Subject::FlatBottle, flat.to_string()),
        (Kind::NotHeld, Subject::FlatIndex, "tool/manifests/1.0".to_owned()),
    ];
    assert_eq!(found(&report), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_bottle_that_was_given_up_on_is_nothing_to_repair() {
    let fixture = published().await;
    let mut set = set(&fixture, RUN);
    set.needs[0].bottles[0].flat = vec!["tool-1.0.x86_64_linux.bottle.tar.gz".parse().unwrap()];
    set.save(&*fixture.store).await.unwrap();
    let report = fixture.verify(Depth::Sizes).await;
    assert!(only(&report).kind == Kind::NotHeld && report.is_repairable());
    let digest: Digest = fixture.digest_of("tool", LINUX).parse().unwrap();
    let failure = Failure::new(Reason::NotFound, "gone", 1, Timestamp::UNIX_EPOCH);
    fixture
        .change_manifest(|manifest| {
            let bottles = &mut manifest.images.values_mut().next().unwrap().bottles;
            bottles.get_mut(&digest).unwrap().state = State::Dead(failure);
        })
        .await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(report.count(Kind::NotHeld), 2);
    assert!(!report.is_repairable(), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_can_not_be_read_is_a_finding() {
    let fixture = published().await;
    let run: RunId = RUN.parse().unwrap();
    let key = set_key(&run).unwrap();
    fixture.overwrite(key.as_str(), b"no set").await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::Unreadable, Subject::Set, key.to_string())]);
    assert_eq!(only(&report).scopes.len(), 4);
    fixture.remove(key.as_str()).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!((only(&report).kind, report.sound), (Kind::Missing, false));
}
