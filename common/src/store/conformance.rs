//! What every store must do, whichever adapter it is.

use bytes::Bytes;

use super::{Body, Condition, Store, StoreError, Tags, Version, superseded_tags};
use crate::bottle::{Digest, Hasher, ObjectKey, Verified};

/// The part size that S3 asks for at least, in bytes.
const PART: usize = 5 << 20;

/// Runs the suite on an empty store that `expires` what is superseded by itself or
/// leaves it to a rule; panics where the contract is broken.
pub(super) async fn run(store: &dyn Store, expires: bool) {
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
    tags_are_replaced_whole(store, expires).await;
    only_what_is_superseded_long_enough_expires(store, expires).await;
    a_range_is_read_in_chunks(store).await;
    the_time_that_an_object_came_with_is_kept(store).await;
    a_flat_name_is_given_by_a_copy(store).await;
    only_the_state_that_was_verified_is_adopted(store).await;
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

async fn tags_are_replaced_whole(store: &dyn Store, expires: bool) {
    let key = bottle(b"tagged");
    let tags = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Tags>()
    };
    assert!(!store.retag(&key, &tags(&[("a", "1")])).await.unwrap(), "what is not there was tagged");
    store.put(&key, Bytes::from_static(b"tagged").into(), Condition::Always).await.unwrap();
    assert!(store.tags(&key).await.unwrap().is_empty());
    assert!(store.retag(&key, &tags(&[("a", "1"), ("b", "2")])).await.unwrap());
    assert!(store.retag(&key, &tags(&[("b", "2026-11-23T10:00:00Z")])).await.unwrap());
    assert_eq!(store.tags(&key).await.unwrap(), tags(&[("b", "2026-11-23T10:00:00Z")]));
    assert_eq!(&store.get(&key).await.unwrap().unwrap().body[..], b"tagged");
    assert!(store.retag(&key, &Tags::new()).await.unwrap());
    assert!(store.tags(&key).await.unwrap().is_empty());
    // What is written over a tagged object, or copied from it, is not tagged.
    store.retag(&key, &tags(&[("a", "1")])).await.unwrap();
    let copy = ObjectKey::blob(&"v2/test/copy".parse().unwrap(), &Digest::of(b"tagged"));
    assert!(store.copy(&key, &copy).await.unwrap());
    assert!(store.tags(&copy).await.unwrap().is_empty());
    // S3 does as much; the emulator of it keeps what the former object had.
    if expires {
        store.put(&key, Bytes::from_static(b"tagged").into(), Condition::Always).await.unwrap();
        assert!(store.tags(&key).await.unwrap().is_empty());
    }
    assert!(store.retag(&self::key("api/x.json"), &tags(&[("a", "1")])).await.is_err());
}

async fn only_what_is_superseded_long_enough_expires(store: &dyn Store, expires: bool) {
    let now: jiff::Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    let hour = std::time::Duration::from_hours(1);
    let [old, young, untagged] = [b"old" as &[u8], b"young", b"untagged"].map(bottle);
    for (key, bytes) in [(&old, "old"), (&young, "young"), (&untagged, "untagged")] {
        store.put(key, Bytes::from_static(bytes.as_bytes()).into(), Condition::Always).await.unwrap();
    }
    store.retag(&old, &superseded_tags(now - hour * 3)).await.unwrap();
    store.retag(&young, &superseded_tags(now - hour)).await.unwrap();
    let keys = [old.clone(), young.clone(), untagged.clone(), bottle(b"absent")];
    assert_eq!(store.expire(&keys, now - hour * 2).await.unwrap(), expires);
    assert_eq!(store.head(&old).await.unwrap().is_none(), expires);
    assert!(store.head(&young).await.unwrap().is_some() && store.head(&untagged).await.unwrap().is_some());
    assert!(store.expire(&[key("api/x.json")], now).await.is_err() || !expires);
}

async fn a_range_is_read_in_chunks(store: &dyn Store) {
    let bytes = content(PART + 9, 7);
    let key = bottle(&bytes);
    store.put(&key, bytes.clone().into(), Condition::Always).await.unwrap();
    assert!(store.read(&bottle(b"absent"), None).await.unwrap().is_none());
    let size = bytes.len() as u64;
    for range in [0..size, 0..1, 10..PART as u64 + 3, size - 1..size, 5..5, size..size] {
        let reading = store.read(&key, Some(range.clone())).await.unwrap().unwrap();
        assert_eq!((reading.meta.size, &reading.meta.key), (size, &key), "{range:?}");
        let read = reading.whole().await.unwrap().body;
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        assert!(read == bytes.slice(start..end), "{range:?}");
    }
    assert!(store.read(&key, Some(0..size + 1)).await.is_err());
    let first = store.read(&key, None).await.unwrap().unwrap();
    let again = store.read(&key, None).await.unwrap().unwrap();
    assert_eq!(first.version, again.version);
}

async fn the_time_that_an_object_came_with_is_kept(store: &dyn Store) {
    let key = key("api/dated.json");
    let modified: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let body = Body::Dated(Bytes::from_static(b"{}"), modified);
    store.put(&key, body, Condition::Always).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().unwrap().modified, modified);
    assert_eq!(store.read(&key, None).await.unwrap().unwrap().meta.modified, modified);
    store.put(&key, Bytes::from_static(b"[]").into(), Condition::Always).await.unwrap();
    assert!(store.head(&key).await.unwrap().unwrap().modified > modified);
}

async fn a_flat_name_is_given_by_a_copy(store: &dyn Store) {
    let (key, flat) = (bottle(b"named"), key("foo@1-1.0_1.x86_64_linux.bottle.2.tar.gz"));
    assert!(store.put(&flat, Bytes::from_static(b"named").into(), Condition::Always).await.is_err());
    store.put(&key, Bytes::from_static(b"named").into(), Condition::Always).await.unwrap();
    assert!(store.copy(&key, &flat).await.unwrap());
    assert_eq!(&store.get(&flat).await.unwrap().unwrap().body[..], b"named");
    assert!(store.copy(&flat, &key).await.is_err(), "a flat name promises no digest");
    let other = bottle(b"renamed");
    store.put(&other, Bytes::from_static(b"renamed").into(), Condition::Always).await.unwrap();
    assert!(store.copy(&other, &flat).await.unwrap());
    assert_eq!(&store.get(&flat).await.unwrap().unwrap().body[..], b"renamed");
}

async fn only_the_state_that_was_verified_is_adopted(store: &dyn Store) {
    let (found, to) = (key("2024-05-01/x-1.all.bottle.tar.gz"), bottle(b"adopted"));
    let version = || async { store.read(&found, None).await.unwrap().unwrap().version };
    store.put(&found, Bytes::from_static(b"adopted").into(), Condition::Always).await.unwrap();
    let seen = version().await;
    let wrong = store.adopt(&found, &seen, &to, proof(b"another")).await;
    assert!(matches!(wrong, Err(StoreError::WrongDigest { .. })), "{wrong:?}");
    store.put(&found, Bytes::from_static(b"changed since").into(), Condition::Always).await.unwrap();
    let stale = store.adopt(&found, &seen, &to, proof(b"adopted")).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    assert!(store.head(&to).await.unwrap().is_none(), "what was not verified is visible");
    store.put(&found, Bytes::from_static(b"adopted").into(), Condition::Always).await.unwrap();
    assert!(store.adopt(&found, &version().await, &to, proof(b"adopted")).await.unwrap());
    assert_eq!(&store.get(&to).await.unwrap().unwrap().body[..], b"adopted");
    let gone = key("2024-05-01/gone.tar.gz");
    assert!(!store.adopt(&gone, &seen, &to, proof(b"adopted")).await.unwrap());
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
