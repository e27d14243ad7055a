//! What is in a mirror's folder, compared with what ought to be.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use testbed::ExpectedBottle;

use crate::harness::Mirror;

/// Every file below a folder, by its path from there; none if the folder is absent.
pub(crate) fn files(root: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, path);
            }
        }
    }
    found
}

/// Every file below a folder with its bytes' hash, and every folder.
pub(crate) fn picture(root: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                seen.insert(name, "a folder".to_owned());
                folders.push(path);
            } else {
                seen.insert(name, sha256(&fs::read(&path).unwrap()));
            }
        }
    }
    seen
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Looks again and again at the part of a mirror that clients see.
#[derive(Default)]
pub(crate) struct Inspector {
    /// Files whose bytes were found right: path, inode, length, time of change.
    right: HashSet<(String, u64, u64, i64)>,
}

/// What clients see of a mirror.
#[derive(Default)]
pub(crate) struct Visible {
    /// Keys of bottles, each found to hash to its name.
    pub(crate) blobs: BTreeSet<String>,
    /// Keys of image indexes, and the digests that each names.
    pub(crate) indexes: BTreeMap<String, Vec<String>>,
}

impl Inspector {
    /// Panics if anything below `v2` is no bottle or image index, or is not whole.
    pub(crate) fn look(&mut self, dir: &Path) -> Visible {
        let mut visible = Visible::default();
        for (key, path) in files(&dir.join("v2")) {
            let key = format!("v2/{key}");
            let mut parts = key.rsplit('/');
            let (name, kind) = (parts.next().unwrap(), parts.next().unwrap());
            match kind {
                "blobs" => {
                    let digest = name.strip_prefix("sha256:").unwrap_or_else(|| panic!("{key} is no bottle"));
                    self.check(&key, &path, digest);
                    visible.blobs.insert(key);
                }
                "manifests" => {
                    let digests = digests(&key, &fs::read(&path).unwrap());
                    visible.indexes.insert(key, digests);
                }
                _ => panic!("{key} is neither a bottle nor an image index"),
            }
        }
        visible
    }

    fn check(&mut self, key: &str, path: &Path, digest: &str) {
        let meta = fs::metadata(path).unwrap();
        let state = (key.to_owned(), meta.ino(), meta.len(), meta.mtime_nsec());
        if self.right.contains(&state) {
            return;
        }
        let bytes = fs::read(path).unwrap();
        assert!(sha256(&bytes) == digest, "{key} holds {} bytes that hash to something else", bytes.len());
        self.right.insert(state);
    }
}

impl Visible {
    /// Panics if an image index names a bottle that isn't there.
    pub(crate) fn check_published_after_content(&self) {
        for (key, digests) in &self.indexes {
            let image = key.split("/manifests/").next().unwrap();
            for digest in digests {
                let blob = format!("{image}/blobs/sha256:{digest}");
                assert!(self.blobs.contains(&blob), "{key} is in place, and {blob} is not");
            }
        }
    }
}

impl Mirror {
    /// Panics unless the mirror holds all that upstream publishes, to the byte, and
    /// nothing else.
    pub(crate) fn check_equals_upstream(&self) {
        self.check_holds(|_| true);
    }

    /// The same for a part of what upstream publishes, with the image indexes of it.
    pub(crate) fn check_holds(&self, wanted: impl Fn(&ExpectedBottle) -> bool) {
        let (visible, expected) = self.check_bottles(wanted);
        let mut indexes = BTreeSet::new();
        for bottle in &expected {
            let index = format!("v2/homebrew/core/{}/manifests/{}", bottle.image, bottle.image_tag);
            if indexes.insert(index.clone()) {
                let held = fs::read(self.path(&index)).unwrap_or_else(|error| panic!("{index}: {error}"));
                assert!(self.upstream.index_bytes(&bottle.formula) == held, "{index} differs");
            }
        }
        assert_eq!(visible.indexes.into_keys().collect::<BTreeSet<_>>(), indexes);
    }

    /// The same for the bottles alone.
    pub(crate) fn check_bottles(
        &self,
        wanted: impl Fn(&ExpectedBottle) -> bool,
    ) -> (Visible, Vec<ExpectedBottle>) {
        let visible = Inspector::default().look(&self.dir());
        let expected: Vec<_> = self.upstream.expected().into_iter().filter(wanted).collect();
        let keys: BTreeSet<_> = expected.iter().map(|bottle| bottle.key.clone()).collect();
        let missing: Vec<_> = keys.difference(&visible.blobs).collect();
        let surplus: Vec<_> = visible.blobs.difference(&keys).collect();
        assert!(missing.is_empty() && surplus.is_empty(), "missing: {missing:#?}\nsurplus: {surplus:#?}");
        for bottle in &expected {
            let held = fs::read(self.path(&bottle.key)).unwrap();
            assert!(self.upstream.content(&bottle.digest).unwrap() == held, "{} differs", bottle.key);
        }
        assert_eq!(self.upstream.log().violations(), Vec::<String>::new());
        (visible, expected)
    }

    /// Panics if processes that ended left something half-done.
    pub(crate) fn check_no_leftovers(&self) {
        self.check_nothing_in(&["_sync/tmp", "_sync/owners", "_sync/receipts"]);
    }

    /// Panics if there are files in one of these folders of the mirror.
    pub(crate) fn check_nothing_in(&self, folders: &[&str]) {
        for folder in folders {
            let left: Vec<_> =
                fs::read_dir(self.path(folder)).unwrap().map(|one| one.unwrap().path()).collect();
            assert!(left.is_empty(), "left in {folder}: {left:?}");
        }
    }

    /// How many different keys upstream's bottles have.
    pub(crate) fn distinct_keys(&self) -> usize {
        self.upstream.expected().into_iter().map(|bottle| bottle.key).collect::<BTreeSet<_>>().len()
    }

    /// How many different bottles there are, wherever they are found.
    pub(crate) fn distinct_digests(&self) -> usize {
        self.upstream.expected().into_iter().map(|bottle| bottle.digest).collect::<BTreeSet<_>>().len()
    }

    /// How often a bottle was asked for, from the registry or the CDN.
    pub(crate) fn blob_requests(&self) -> usize {
        self.upstream.log().count("cdn:*") + self.upstream.log().count("registry:*/blobs/*")
    }

    /// How often an image index was asked for.
    pub(crate) fn index_requests(&self) -> usize {
        self.upstream.log().count("registry:*/manifests/*")
    }

    /// How often the fetch of a bottle was begun: the later ranges of one don't count.
    pub(crate) fn fetches(&self) -> usize {
        let entries = self.upstream.log().entries();
        let begins =
            |range: &Option<String>| range.as_ref().is_none_or(|range| range.starts_with("bytes=0-"));
        entries.iter().filter(|entry| entry.server == testbed::Server::Cdn && begins(&entry.range)).count()
    }
}

/// The digests that an image index names.
fn digests(key: &str, bytes: &[u8]) -> Vec<String> {
    let index: Value = serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{key}: {error}"));
    let entries = index["manifests"].as_array().unwrap();
    let digest = |entry: &Value| entry["annotations"]["sh.brew.bottle.digest"].as_str().unwrap().to_owned();
    entries.iter().map(digest).collect()
}
