//! What every store must do, whichever adapter it is.

use bytes::Bytes;

use super::{Condition, Store, StoreError, Tags, Version};
use crate::bottle::{Digest, Hasher, ObjectKey, Verified};

/// The part size that S3 asks for at least, in bytes.
const PART: usize = 5 << 20;

/// Runs the suite on an empty store; panics where the contract is broken.
pub(super) async fn run(store: &dyn Store) {
    what_is_put_is_read_back(store).await;
    a_bottles_key_takes_only_its_own_bytes(store).await;
    conditions_hold_or_change_nothing(store).await;
    of_two_racing_writers_one_wins(store).await;
    parts_are_seen_only_when_completed(store).await;
    an_aborted_upload_leaves_nothing(store).await;
    a_proof_of_other_bytes_completes_nothing(store).await;
    a_copy_is_of_the_same_bottle(store).await;
    keys_are_listed_in_order_and_in_pages(store).await;
    only_internal_objects_are_deleted(store).await;
    tags_are_replaced_whole(store).await;
}

async fn what_is_put_is_read_back(store: &dyn Store) {
    let key = key("api/formula@1.2+x.json");
    assert!(store.head(&key).await.unwrap().is_none());
    assert!(store.get(&key).await.unwrap().is_none());
    let first = store.put(&key, Bytes::from_static(b"{}").into(), Condition::Always).await.unwrap();
    let second = store.put(&key, Bytes::from_static(b"[1]").into(), Condition::Always).await.unwrap();
    assert_ne!(first, second);
    let object = store.get(&key).await.unwrap().unwrap();
    assert_eq!((&object.body[..], object.version), (&b"[1]"[..], second));
    assert_eq!(store.head(&key).await.unwrap().unwrap().size, 3);
}

async fn a_bottles_key_takes_only_its_own_bytes(store: &dyn Store) {
    let key = bottle(b"right");
    for condition in [Condition::Always, Condition::Absent] {
        let error = store.put(&key, Bytes::from_static(b"wrong").into(), condition).await.unwrap_err();
        assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");
        assert!(store.head(&key).await.unwrap().is_none(), "wrong bytes are visible");
    }
    store.put(&key, Bytes::from_static(b"right").into(), Condition::Always).await.unwrap();
    store.put(&key, Bytes::from_static(b"wrong").into(), Condition::Always).await.unwrap_err();
    assert_eq!(&store.get(&key).await.unwrap().unwrap().body[..], b"right");
}

async fn conditions_hold_or_change_nothing(store: &dyn Store) {
    let key = key("_sync/conditional.json");
    let stale = Version("\"0\"".to_owned());
    conflict(&store.put(&key, Bytes::from_static(b"0").into(), Condition::Matches(stale)).await);
    let one = store.put(&key, Bytes::from_static(b"1").into(), Condition::Absent).await.unwrap();
    conflict(&store.put(&key, Bytes::from_static(b"2").into(), Condition::Absent).await);
    let two =
        store.put(&key, Bytes::from_static(b"2").into(), Condition::Matches(one.clone())).await.unwrap();
    conflict(&store.put(&key, Bytes::from_static(b"3").into(), Condition::Matches(one)).await);
    let object = store.get(&key).await.unwrap().unwrap();
    assert_eq!((&object.body[..], object.version), (&b"2"[..], two));
}

async fn of_two_racing_writers_one_wins(store: &dyn Store) {
    let key = key("_sync/raced.json");
    let mut version = store.put(&key, Bytes::from_static(b"start").into(), Condition::Absent).await.unwrap();
    for round in 0..10 {
        let write = |who: &str| {
            store.put(&key, Bytes::from(format!("{who}{round}")).into(), Condition::Matches(version.clone()))
        };
        let (a, b) = tokio::join!(write("a"), write("b"));
        assert!(a.is_ok() != b.is_ok(), "both writers won, or neither did");
        version = a.or(b).unwrap();
    }
}

async fn parts_are_seen_only_when_completed(store: &dyn Store) {
    let bytes = content(PART + 77, 1);
    let key = bottle(&bytes);
    let upload = store.begin(&key, bytes.len() as u64, PART as u64).await.unwrap();
    // Out of order, and one of them twice.
    upload.part(1, bytes.slice(PART..)).await.unwrap();
    upload.part(0, bytes.slice(..PART)).await.unwrap();
    upload.part(1, bytes.slice(PART..)).await.unwrap();
    assert!(store.head(&key).await.unwrap().is_none(), "an unfinished bottle is visible");
    upload.complete(proof(&bytes)).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().unwrap().body, bytes);
}

async fn an_aborted_upload_leaves_nothing(store: &dyn Store) {
    let bytes = content(PART + 1, 2);
    let key = bottle(&bytes);
    let upload = store.begin(&key, bytes.len() as u64, PART as u64).await.unwrap();
    upload.part(0, bytes.slice(..PART)).await.unwrap();
    upload.abort().await.unwrap();
    assert!(store.head(&key).await.unwrap().is_none());
}

async fn a_proof_of_other_bytes_completes_nothing(store: &dyn Store) {
    let bytes = content(PART + 2, 3);
    let key = bottle(&bytes);
    let upload = store.begin(&key, bytes.len() as u64, PART as u64).await.unwrap();
    upload.part(0, bytes.slice(..PART)).await.unwrap();
    upload.part(1, bytes.slice(PART..)).await.unwrap();
    assert!(upload.complete(proof(b"something else")).await.is_err());
    assert!(store.head(&key).await.unwrap().is_none());
}

async fn a_copy_is_of_the_same_bottle(store: &dyn Store) {
    let digest = Digest::of(b"shared");
    let [from, to, absent] =
        ["v2/t/a", "v2/t/b", "v2/t/c"].map(|image| ObjectKey::blob(&image.parse().unwrap(), &digest));
    store.put(&from, Bytes::from_static(b"shared").into(), Condition::Always).await.unwrap();
    assert!(!store.copy(&absent, &to).await.unwrap());
    assert!(store.copy(&from, &to).await.unwrap());
    assert_eq!(&store.get(&to).await.unwrap().unwrap().body[..], b"shared");
    assert!(store.copy(&from, &bottle(b"another")).await.is_err());
}

async fn keys_are_listed_in_order_and_in_pages(store: &dyn Store) {
    let names = ["_sync/list/a", "_sync/list/a.b", "_sync/list/a/b", "_sync/list/b", "_sync/list-other"];
    for name in names.iter().rev() {
        if *name != "_sync/list/a" {
            store.put(&key(name), Bytes::from_static(b"x").into(), Condition::Always).await.unwrap();
        }
    }
    let list = |after: Option<ObjectKey>, limit| async move {
        let found = store.list("_sync/list/", after.as_ref(), limit).await.unwrap();
        found.into_iter().map(|meta| meta.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10).await, ["_sync/list/a.b", "_sync/list/a/b", "_sync/list/b"]);
    assert_eq!(list(None, 2).await, ["_sync/list/a.b", "_sync/list/a/b"]);
    assert_eq!(list(Some(key("_sync/list/a/b")), 2).await, ["_sync/list/b"]);
    assert!(store.list("_sync/nothing/", None, 5).await.unwrap().is_empty());
}

async fn only_internal_objects_are_deleted(store: &dyn Store) {
    let internal = key("_sync/gone.json");
    store.put(&internal, Bytes::from_static(b"x").into(), Condition::Always).await.unwrap();
    let kept = bottle(b"kept");
    store.put(&kept, Bytes::from_static(b"kept").into(), Condition::Always).await.unwrap();
    let refused = store.delete(&[internal.clone(), kept.clone()]).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })));
    assert!(store.head(&kept).await.unwrap().is_some());
    store.delete(std::slice::from_ref(&internal)).await.unwrap();
    store.delete(std::slice::from_ref(&internal)).await.unwrap();
    assert!(store.head(&internal).await.unwrap().is_none());
}

async fn tags_are_replaced_whole(store: &dyn Store) {
    let key = bottle(b"tagged");
    let tags = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Tags>()
    };
    assert!(store.tag(&key, &tags(&[("a", "1")])).await.is_err(), "what is not there was tagged");
    store.put(&key, Bytes::from_static(b"tagged").into(), Condition::Always).await.unwrap();
    assert!(store.tags(&key).await.unwrap().is_empty());
    store.tag(&key, &tags(&[("a", "1"), ("b", "2")])).await.unwrap();
    store.tag(&key, &tags(&[("b", "3")])).await.unwrap();
    assert_eq!(store.tags(&key).await.unwrap(), tags(&[("b", "3")]));
    store.tag(&key, &Tags::new()).await.unwrap();
    assert!(store.tags(&key).await.unwrap().is_empty());
}

fn conflict(result: &Result<Version, StoreError>) {
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "{result:?}");
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn bottle(bytes: &[u8]) -> ObjectKey {
    ObjectKey::blob(&"v2/test/bottle/1".parse().unwrap(), &Digest::of(bytes))
}

fn proof(bytes: &[u8]) -> Verified {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.verify(Digest::of(bytes)).unwrap()
}

fn content(length: usize, seed: u8) -> Bytes {
    (0..=u8::MAX).cycle().map(|n| n.wrapping_mul(31).wrapping_add(seed)).take(length).collect()
}
