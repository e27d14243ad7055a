//! Bundles with something wrong in them.

use std::fs::File;
use std::io::Write as _;

use common::airgap::{ImportError, Since};
use common::bottle::Digest;
use common::publication::Set;

use super::{Entries, Gap, picture, repack, small, unpack, wave};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_cut_short_anywhere_publishes_nothing_and_the_whole_one_goes_on() {
    let gap = Gap::new(wave(1)).await;
    gap.export(Since::Start, "whole.tar.zst").await;
    let whole = std::fs::read(gap.path("whole.tar.zst")).unwrap();
    for cut in [0, 3, 100, whole.len() / 3, whole.len() * 3 / 4, whole.len() - 300, whole.len() - 1] {
        std::fs::write(gap.path("cut.tar.zst"), &whole[..cut]).unwrap();
        let error = gap.refused("cut.tar.zst").await;
        let is_said = matches!(error, ImportError::CutShort { .. } | ImportError::NoHeader { .. });
        assert!(is_said && error.to_string().contains("cut.tar.zst"), "cut at {cut}: {error}");
    }
    let imported = gap.import("whole.tar.zst").await;
    assert_eq!(imported.bottles.bottles, 0, "what was verified was brought again");
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_with_anything_wrong_in_it_publishes_nothing() {
    let gap = Gap::new(small()).await;
    gap.export(Since::Start, "whole.tar.zst").await;
    let whole = unpack(&gap.path("whole.tar.zst"));
    let position = |part: &str| whole.iter().position(|(name, _)| name.contains(part)).unwrap();
    let (blob, index, end) = (position("/blobs/"), position("/manifests/"), position("end.json"));
    let listing = position("manifest.jsonl");

    // A flipped byte in a bottle, and the archive made anew around it.
    let mut flipped = whole.clone();
    flipped[blob].1[1_000] ^= 1;
    repack(&gap.path("bad.tar.zst"), &flipped);
    match gap.refused("bad.tar.zst").await {
        ImportError::WrongDigest { entry, .. } => assert_eq!(entry, whole[blob].0),
        other => panic!("{other}"),
    }
    assert!(gap.target.object(&whole[blob].0).await.is_none(), "a wrong byte became visible");

    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut wrong = Vec::new();
    let mut add = |change: &dyn Fn(&mut Entries)| {
        let mut entries = whole.clone();
        change(&mut entries);
        wrong.push(entries);
    };
    // Bytes of an index, an entry less, one twice as it were, the end first, another listing.
    add(&|all| all[index].1.push(b' '));
    add(&|all| drop(all.remove(blob)));
    add(&|all| drop(all.remove(index)));
    add(&|all| drop(all.remove(listing)));
    add(&|all| drop(all.remove(end)));
    add(&|all| all.swap(blob, blob + 1));
    add(&|all| all.swap(end, blob));
    add(&|all| all.swap(0, blob));
    add(&|all| {
        all[listing].1 = text(&all[listing].1).replacen("\"carried\":true", "\"carried\":false", 1).into();
    });
    add(&|all| all[end].1 = text(&all[end].1).replace("\"bottles\": 6", "\"bottles\": 7").into());
    // What a bundle never holds.
    for name in ["_sync/manifest.jsonl.zst", "api/formula.jws.json", "x", "v2/x/y/blobs/sha256:00"] {
        add(&|all| all.insert(blob, (name.to_owned(), b"{}".to_vec())));
    }
    for (number, entries) in wrong.iter().enumerate() {
        repack(&gap.path("bad.tar.zst"), entries);
        let error = gap.refused("bad.tar.zst").await;
        assert!(error.to_string().contains("bad.tar.zst"), "{number}: {error}");
    }
    let mut newer = whole.clone();
    newer[0].1 = text(&newer[0].1).replace("\"format\": 1", "\"format\": 2").into();
    repack(&gap.path("bad.tar.zst"), &newer);
    assert!(matches!(gap.refused("bad.tar.zst").await, ImportError::UnknownFormat { format: 2, .. }));

    // A byte of the compressed archive.
    let bytes = std::fs::read(gap.path("whole.tar.zst")).unwrap();
    for at in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 2] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        std::fs::write(gap.path("bad.tar.zst"), &flipped).unwrap();
        gap.refused("bad.tar.zst").await;
    }
    gap.import("whole.tar.zst").await;
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_plain_file_is_refused() {
    let gap = Gap::new(small()).await;
    gap.export(Since::Start, "whole.tar.zst").await;
    let entries = unpack(&gap.path("whole.tar.zst"));
    let encoder = zstd::Encoder::new(File::create(gap.path("bad.tar.zst")).unwrap(), 1).unwrap();
    let mut archive = tar::Builder::new(encoder);
    let mut header = tar::Header::new_gnu();
    header.set_size(entries[0].1.len() as u64);
    archive.append_data(&mut header, &entries[0].0, &entries[0].1[..]).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "v2/x/manifests/1", "/etc/passwd").unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    let error = gap.refused("bad.tar.zst").await;
    assert!(error.to_string().contains("not a plain file"), "{error}");
}

/// Begins a volume as an export does: its first entry is whole.
fn begin(gap: &Gap) -> tar::Builder<zstd::Encoder<'static, File>> {
    let entries = unpack(&gap.path("whole.tar.zst"));
    let encoder = zstd::Encoder::new(File::create(gap.path("bad.tar.zst")).unwrap(), 1).unwrap();
    let mut archive = tar::Builder::new(encoder);
    let mut header = tar::Header::new_gnu();
    header.set_size(entries[0].1.len() as u64);
    archive.append_data(&mut header, &entries[0].0, &entries[0].1[..]).unwrap();
    archive
}

/// The header of an entry that says more than it holds.
fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_entry_says_of_its_size_costs_no_memory() {
    const HUGE: u64 = 1 << 50;
    let gap = Gap::new(small()).await;
    gap.export(Since::Start, "whole.tar.zst").await;
    let blob = format!("v2/x/blobs/sha256:{}", Digest::of(b"x"));
    let name = tar::EntryType::GNULongName;
    let cases = [
        (header(&blob, tar::EntryType::Regular, HUGE), "a bottle"),
        (header(&blob, tar::EntryType::Regular, common::mirror::LARGEST_BOTTLE + 1), "a bottle"),
        (header("v2/x/manifests/1", tar::EntryType::Regular, HUGE), "at most"),
        (header("././@LongLink", name, HUGE), "an entry's name"),
        (header("././@LongLink", name, 5 << 10), "an entry's name"),
        (header("x", tar::EntryType::XHeader, 1 << 30), "not a plain file"),
        (header("x", tar::EntryType::XGlobalHeader, 1 << 30), "not a plain file"),
        (header("x", tar::EntryType::GNULongLink, 1 << 30), "not a plain file"),
    ];
    for (header, why) in cases {
        let mut archive = begin(&gap);
        let encoder = archive.get_mut();
        encoder.write_all(header.as_bytes()).unwrap();
        encoder.write_all(&[b'x'; 10_000]).unwrap();
        archive.into_inner().unwrap().finish().unwrap();
        let error = gap.refused("bad.tar.zst").await;
        assert!(error.to_string().contains(why) && !error.is_usage(), "{error}");
    }
    gap.import("whole.tar.zst").await;
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_gives_a_bottle_the_name_of_something_else_is_refused() {
    let gap = Gap::new(small()).await;
    gap.export(Since::Start, "whole.tar.zst").await;
    let whole = unpack(&gap.path("whole.tar.zst"));
    let (at, name) = (0..).zip(&whole).find(|(_, (name, _))| name.starts_with("api/sets/")).unwrap();
    let set = Set::decode(&name.1).unwrap();
    for key in ["_sync/imports.json", "api/formula.jws.json", "v2/x/manifests/1"] {
        let mut hostile = set.clone();
        hostile.needs[0].bottles[0].flat = vec![key.parse().unwrap()];
        let mut entries = whole.clone();
        entries[at].1 = hostile.encode().unwrap();
        repack(&gap.path("bad.tar.zst"), &entries);
        let error = gap.refused("bad.tar.zst").await;
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_volume_that_is_none_is_a_failure_since_bottles_were_taken() {
    let gap = Gap::new(wave(0)).await;
    let exported = gap.try_export(&Since::Start, &gap.path("volumes"), Some(200 << 10)).await.unwrap();
    // The last one: bottles are before it.
    assert!(exported.files.len() > 2);
    std::fs::write(&exported.files.last().unwrap().path, b"no volume").unwrap();
    let error = gap.refused("volumes").await;
    assert!(matches!(error, ImportError::Damaged { .. }) && !error.is_usage(), "{error}");
    assert!(!picture(&*gap.target.store).await.is_empty(), "nothing was taken");
}
