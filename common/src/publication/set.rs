//! A set as objects in the store: its files under their digests, and one object that
//! says which they are and what they need.
//!
//! `_sync/api/sets/<run>.jsonl.zst`: a header line with the files, then a line for
//! each image with its needed bottles. `_sync/api/files/<sha256>`: a file, verbatim.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bottle::{BottleTag, Digest, ImagePath, ImageTag, KeyKind, ObjectKey};
use crate::registry::Validators;
use crate::run::RunId;
use crate::store::{Condition, Store, StoreError};

use super::{ApiPath, Publication, Scope};

/// API files of one moment, and what they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The run that staged it.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// The client platforms that it is for.
    pub clients: Vec<BottleTag>,
    /// The files.
    pub files: BTreeMap<ApiPath, ApiFile>,
    /// What has to be there for them to be published.
    pub needs: Vec<Need>,
}

/// One API file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiFile {
    /// The sha256 of its bytes, under which it is kept.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When upstream last changed it, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// What tells whether it changed.
    pub validators: Validators,
}

/// The bottles of one image that are needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The image.
    pub image: ImagePath,
    /// The image index that must be in place; `None` if clients ask for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<ImageTag>,
    /// Whether a copy of the index beside the flat names is needed too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flat_index: bool,
    /// The bottles.
    pub bottles: Vec<NeededBottle>,
}

/// One bottle that is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededBottle {
    /// Its digest.
    pub digest: Digest,
    /// The clients that it is for: positions in the set's `clients`.
    pub clients: Vec<u16>,
    /// The flat names that it is needed under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flat: Vec<ObjectKey>,
}

/// A set that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It is damaged.
    #[error("the staged set {key} is damaged: {why}; the next plan that finds a change stages another")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where sets are.
pub const SETS: &str = "_sync/api/sets/";

/// Where files are.
const FILES: &str = "_sync/api/files/";

/// Digests don't compress, and all else does at any level.
const LEVEL: i32 = 1;

/// A set takes up at most so many bytes unpacked: that of all of Homebrew has some 20 MB.
/// A few bytes from elsewhere could else unpack to more than there is memory.
const LARGEST: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    run: RunId,
    at: Timestamp,
    clients: Vec<BottleTag>,
    files: BTreeMap<ApiPath, ApiFile>,
    needs: usize,
}

impl Set {
    /// The scopes that it has files for, of its clients, all of them together, and what
    /// names no bottle. Who has none goes on reading what was published before.
    pub fn scopes(&self) -> Vec<Scope> {
        let clients = self.clients.iter().cloned().map(Scope::Client);
        let all = clients.chain([Scope::AllClients, Scope::NoBottles]);
        all.filter(|scope| self.files_of(scope).next().is_some()).collect()
    }

    /// The files of one scope.
    pub fn files_of<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = (&'a ApiPath, &'a ApiFile)> {
        self.files.iter().filter(move |(path, _)| path.scope() == *scope)
    }

    /// Whether who reads the files of a scope is told of a bottle that the set needs.
    pub fn tells(&self, scope: &Scope, bottle: &NeededBottle) -> bool {
        match scope {
            Scope::AllClients => true,
            Scope::NoBottles => false,
            Scope::Client(tag) => {
                bottle.clients.iter().any(|client| self.clients.get(usize::from(*client)) == Some(tag))
            }
        }
    }

    /// Reads the set of a run; `None` if there is none.
    pub async fn load(store: &dyn Store, run: &RunId) -> Result<Option<Self>, SetError> {
        let key = set_key(run)?;
        let Some(object) = store.get(&key).await? else { return Ok(None) };
        let set = Self::decode(&object.body);
        set.map(Some).map_err(|why| SetError::Damaged { key: key.to_string(), why })
    }

    /// Writes the set; its files are there already.
    pub async fn save(&self, store: &dyn Store) -> Result<(), SetError> {
        let key = set_key(&self.run)?;
        let body = self
            .encode()
            .map_err(|error| SetError::Damaged { key: key.to_string(), why: error.to_string() })?;
        store.put(&key, Bytes::from(body).into(), Condition::Always).await?;
        Ok(())
    }

    /// The set as bytes.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let Self { run, at, clients, files, needs } = self.clone();
        let header = Header { run, at, clients, files, needs: needs.len() };
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        serde_json::to_writer(&mut encoder, &header)?;
        encoder.write_all(b"\n")?;
        for need in &needs {
            serde_json::to_writer(&mut encoder, need)?;
            encoder.write_all(b"\n")?;
        }
        encoder.finish()
    }

    /// A set from its bytes; the error says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        Self::decode_within(bytes, LARGEST)
    }

    fn decode_within(bytes: &[u8], most: u64) -> Result<Self, String> {
        let decoder = zstd::Decoder::new(bytes).map_err(|error| error.to_string())?;
        let capped = Capped { inner: decoder, most, read: 0 };
        let mut lines = BufReader::with_capacity(128 << 10, capped).lines();
        let header = lines.next().ok_or("it is empty")?.map_err(|error| error.to_string())?;
        let Header { run, at, clients, files, needs: count } =
            serde_json::from_str(&header).map_err(|error| error.to_string())?;
        let mut needs = Vec::new();
        for line in lines {
            let line = line.map_err(|error| error.to_string())?;
            let need: Need = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            if need
                .bottles
                .iter()
                .flat_map(|bottle| &bottle.clients)
                .any(|at| usize::from(*at) >= clients.len())
            {
                return Err("a bottle is for a client that it doesn't name".to_owned());
            }
            // Settle makes a copy under each: no other key may be one.
            let names = need.bottles.iter().flat_map(|bottle| &bottle.flat);
            if let Some(key) = names.clone().find(|key| key.kind() != KeyKind::FlatBottle) {
                return Err(format!("{key} is no flat name of a bottle"));
            }
            needs.push(need);
        }
        if needs.len() != count {
            return Err("it needs less than it says".to_owned());
        }
        Ok(Self { run, at, clients, files, needs })
    }
}

/// Bytes of which there may be no more than so many.
struct Capped<R> {
    inner: R,
    most: u64,
    read: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        if self.read > self.most {
            return Err(io::Error::other(format!("it unpacks to more than {} MiB", self.most >> 20)));
        }
        Ok(read)
    }
}

/// The key of the set that a run staged.
pub fn set_key(run: &RunId) -> Result<ObjectKey, StoreError> {
    format!("{SETS}{run}.jsonl.zst").parse().map_err(StoreError::from)
}

/// The key of a file's bytes.
pub fn file_key(sha256: &Digest) -> Result<ObjectKey, StoreError> {
    format!("{FILES}{sha256}").parse().map_err(StoreError::from)
}

/// Removes the sets, and the files, that nothing refers to any more. Those written
/// since `before` stay: a plan may be staging them.
pub async fn forget_unused(
    store: &dyn Store,
    publication: &Publication,
    before: Timestamp,
) -> Result<(), SetError> {
    let mut files = BTreeSet::new();
    let mut sets = BTreeSet::new();
    for run in publication.runs() {
        sets.insert(set_key(run)?);
        if let Some(set) = Set::load(store, run).await? {
            files.extend(set.files.values().map(|file| file.sha256));
        }
    }
    let files: BTreeSet<ObjectKey> = files.iter().map(file_key).collect::<Result<_, _>>()?;
    let mut unused = Vec::new();
    for (prefix, used) in [(SETS, sets), (FILES, files)] {
        let listed = store.list(prefix, None, usize::MAX).await?;
        let old = listed.into_iter().filter(|meta| meta.modified < before && !used.contains(&meta.key));
        unused.extend(old.map(|meta| meta.key));
    }
    Ok(store.delete(&unused).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_back_as_it_was_written_and_a_cut_one_is_refused() {
        let digest = Digest::of(b"bottle");
        let file = ApiFile { sha256: digest, size: 3, modified: None, validators: Validators::default() };
        let set = Set {
            run: "20260101T000000Z-abcd".parse().unwrap(),
            at: Timestamp::UNIX_EPOCH,
            clients: vec!["x86_64_linux".parse().unwrap()],
            files: BTreeMap::from([("formula.jws.json".parse().unwrap(), file)]),
            needs: vec![Need {
                image: "v2/homebrew/core/wget".parse().unwrap(),
                index: Some("1.0".parse().unwrap()),
                flat_index: false,
                bottles: vec![NeededBottle { digest, clients: vec![0], flat: Vec::new() }],
            }],
        };
        let bytes = set.encode().unwrap();
        assert_eq!(Set::decode(&bytes), Ok(set.clone()));
        for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            assert!(Set::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut other = set.clone();
        other.needs[0].bottles[0].clients = vec![1];
        assert!(Set::decode(&other.encode().unwrap()).is_err());
        for key in
            ["_sync/imports.json", "api/formula.jws.json", "v2/x/manifests/1", "x/manifests/1", "notes"]
        {
            let mut other = set.clone();
            other.needs[0].bottles[0].flat = vec![key.parse().unwrap()];
            let refused = Set::decode(&other.encode().unwrap()).unwrap_err();
            assert!(refused.contains(key), "{refused}");
        }
        // What a header says costs no memory before it is there.
        let Set { run, at, clients, files, .. } = set;
        let header = Header { run, at, clients, files, needs: usize::MAX };
        let bytes = zstd::encode_all(&*serde_json::to_vec(&header).unwrap(), LEVEL).unwrap();
        assert_eq!(Set::decode(&bytes), Err("it needs less than it says".to_owned()));
    }

    #[test]
    fn a_set_that_unpacks_to_more_than_any_set_has_is_refused() {
        const MOST: u64 = 3 << 20;
        let bomb = zstd::encode_all(io::repeat(b'x').take(MOST + 1), LEVEL).unwrap();
        assert!(bomb.len() < 1000);
        assert_eq!(Set::decode_within(&bomb, MOST), Err("it unpacks to more than 3 MiB".to_owned()));
    }
}
