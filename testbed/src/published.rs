//! One state of upstream: a spec with its digests and the files made from it.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::content::{Content, Digest, Generator};
use crate::draft::{Draft, content};
use crate::index::{self, Omit};
use crate::places::Places;
use crate::tap::{Bottled, CORE, Tap, TapRoot, TapSpec};
use crate::{elements, signed};

/// The path of the catalogue.
pub(crate) const CATALOGUE: &str = "/api/formula.json";

/// What is published at one time. What was published before stays reachable by tag,
/// digest and file name, as it does in the registry.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) generator: Arc<Generator>,
    pub(crate) known: HashMap<Content, Digest>,
    /// Homebrew/core, then the others.
    taps: Vec<Tap>,
    raw_elements: Vec<Value>,
    places: Places,
    files: BTreeMap<String, OnceLock<ApiFile>>,
    last_modified: Timestamp,
    previous: Option<Arc<Published>>,
}

/// A file of the API, ready to be sent.
#[derive(Debug)]
pub(crate) struct ApiFile {
    pub(crate) body: Bytes,
    /// Without quotes.
    pub(crate) etag: String,
    gzip: OnceLock<Bytes>,
}

impl Published {
    /// `files` is the origin of the plain host.
    pub(crate) fn new(draft: Draft, files: &str, previous: Option<Arc<Self>>) -> Self {
        let Draft { spec, generator, known } = draft;
        let core = TapSpec { name: CORE.to_owned(), root: TapRoot::Registry, formulae: spec.formulae };
        let taps: Vec<Tap> = std::iter::once(core)
            .chain(spec.taps)
            .map(|tap| Tap::new(tap, files, |bottle| known[&content(bottle)]))
            .collect();

        // HTTP dates have whole seconds, and a later publication needs a later date.
        let now = Timestamp::now().as_second();
        let after = previous.as_ref().map_or(now, |one| one.last_modified.as_second() + 1);
        let last_modified = Timestamp::from_second(now.max(after)).unwrap_or_default();

        let mut published = Self {
            generator,
            known,
            places: Places::new(&taps),
            taps,
            raw_elements: spec.raw_elements,
            files: BTreeMap::new(),
            last_modified,
            previous,
        };
        let own = [CATALOGUE.to_owned()].into_iter().chain(signed::paths(&published));
        let others = published.taps.iter().skip(1).map(|tap| tap_catalogue(&tap.name));
        published.files = own.chain(others).map(|path| (path, OnceLock::new())).collect();
        published
    }

    pub(crate) fn last_modified(&self) -> Timestamp {
        self.last_modified
    }

    /// How many publications there were before this one.
    pub(crate) fn generation(&self) -> usize {
        self.previous.as_ref().map_or(0, |previous| previous.generation() + 1)
    }

    /// Homebrew/core, then the others.
    pub(crate) fn taps(&self) -> &[Tap] {
        &self.taps
    }

    pub(crate) fn tap(&self, name: &str) -> Option<&Tap> {
        self.taps.iter().find(|tap| tap.name == name)
    }

    pub(crate) fn core(&self) -> &Tap {
        &self.taps[0]
    }

    /// The formula of that full name, as published last.
    pub(crate) fn formula(&self, name: &str) -> Option<Bottled<'_>> {
        self.places.formula(&self.taps, name)
    }

    /// True if there is an index under that tag of the image.
    pub(crate) fn has_index(&self, image: &str, image_tag: &str) -> bool {
        let own = self.places.image(&self.taps, image);
        own.is_some_and(|bottled| bottled.spec.image_tag() == image_tag)
            || self.previous.as_ref().is_some_and(|previous| previous.has_index(image, image_tag))
    }

    /// The index under a tag of an image, also one of an earlier publication.
    pub(crate) fn index(&self, image: &str, image_tag: &str, omit: &Omit) -> Option<Vec<u8>> {
        let own = self.places.image(&self.taps, image);
        match own.filter(|bottled| bottled.spec.image_tag() == image_tag) {
            Some(bottled) => Some(index::body(self, &bottled, omit)),
            None => self.previous.as_ref()?.index(image, image_tag, omit),
        }
    }

    /// True if the image has, or had, that blob.
    pub(crate) fn holds(&self, image: &str, digest: &Digest) -> bool {
        self.places.holds(image, digest)
            || self.previous.as_ref().is_some_and(|previous| previous.holds(image, digest))
    }

    /// The bytes of a digest, also of one published earlier.
    pub(crate) fn blob(&self, digest: &Digest) -> Option<(Arc<Generator>, Content)> {
        match self.places.content(digest) {
            Some(content) => Some((Arc::clone(&self.generator), content)),
            None => self.previous.as_ref()?.blob(digest),
        }
    }

    /// The bytes of a file of the plain host by its path, also of one published earlier
    /// under a name that is not in use any more.
    pub(crate) fn flat_file(&self, path: &str) -> Option<(Arc<Generator>, Content)> {
        match self.places.file(path) {
            Some(digest) => self.blob(digest),
            None => self.previous.as_ref()?.flat_file(path),
        }
    }

    /// The paths of the API's files, without the catalogues of other taps.
    pub(crate) fn api_paths(&self) -> impl Iterator<Item = &String> {
        self.files.keys().filter(|path| path.starts_with("/api/"))
    }

    /// The file at a path of the API's server, made at the first call.
    pub(crate) fn file(&self, path: &str) -> Option<&ApiFile> {
        let file = self.files.get(path)?;
        Some(file.get_or_init(|| {
            let other = self.taps.iter().skip(1).find(|tap| tap_catalogue(&tap.name) == path);
            ApiFile::new(match other {
                Some(tap) => elements::catalogue(tap.listed(), &[]),
                None if path == CATALOGUE => elements::catalogue(self.core().listed(), &self.raw_elements),
                None => signed::body(self, path),
            })
        }))
    }
}

impl ApiFile {
    fn new(body: Vec<u8>) -> Self {
        let etag = hex::encode(&Sha256::digest(&body)[..16]);
        Self { body: body.into(), etag, gzip: OnceLock::new() }
    }

    /// The body compressed, which is done at the first call.
    pub(crate) fn gzip(&self) -> &Bytes {
        self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            // Writing to memory can't fail.
            encoder.write_all(&self.body).unwrap_or_default();
            encoder.finish().unwrap_or_default().into()
        })
    }
}

/// The path of the catalogue of a tap beside homebrew/core.
pub(crate) fn tap_catalogue(tap: &str) -> String {
    format!("/taps/{tap}/formula.json")
}
