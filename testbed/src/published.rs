//! One state of upstream: a spec with its digests and the files made from it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::catalogue::{BottleSpec, FormulaSpec, Spec};
use crate::content::{Content, Digest, Generator};
use crate::index::{self, Omit};
use crate::{elements, signed};

/// The path of the catalogue.
pub(crate) const CATALOGUE: &str = "/api/formula.json";

/// What is published at one time. What was published before stays reachable by tag
/// and digest, as it does in the registry.
#[derive(Debug)]
pub(crate) struct Published {
    spec: Spec,
    generator: Arc<Generator>,
    /// By formula, by bottle.
    digests: Vec<Vec<Digest>>,
    known: HashMap<Content, Digest>,
    by_name: HashMap<String, usize>,
    by_image: HashMap<String, usize>,
    blobs: HashMap<Digest, Blob>,
    files: BTreeMap<String, OnceLock<ApiFile>>,
    last_modified: Timestamp,
    previous: Option<Arc<Published>>,
}

/// A formula with the digests of its bottles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bottled<'a> {
    pub(crate) spec: &'a FormulaSpec,
    digests: &'a [Digest],
}

/// A file of the API, ready to be sent.
#[derive(Debug)]
pub(crate) struct ApiFile {
    pub(crate) body: Bytes,
    /// Without quotes.
    pub(crate) etag: String,
    gzip: OnceLock<Bytes>,
}

#[derive(Debug)]
struct Blob {
    content: Content,
    /// Below `homebrew/core/`.
    images: Vec<String>,
}

impl Published {
    /// Works out every digest: seconds of work if the bottles come to gigabytes.
    pub(crate) fn new(spec: Spec, previous: Option<Arc<Self>>) -> Self {
        let alike = previous.as_ref().filter(|previous| previous.spec.seed == spec.seed);
        let generator =
            alike.map_or_else(|| Arc::new(Generator::new(spec.seed)), |one| Arc::clone(&one.generator));
        let mut known = alike.map(|previous| previous.known.clone()).unwrap_or_default();
        learn(&generator, &spec, &mut known);

        let digest = |bottle: &BottleSpec| known[&content(bottle)];
        let digests: Vec<Vec<Digest>> =
            spec.formulae.iter().map(|one| one.bottles.iter().map(digest).collect()).collect();
        let mut blobs: HashMap<Digest, Blob> = HashMap::new();
        for formula in &spec.formulae {
            for bottle in &formula.bottles {
                let blob = blobs
                    .entry(digest(bottle))
                    .or_insert_with(|| Blob { content: content(bottle), images: Vec::with_capacity(1) });
                blob.images.push(formula.image());
            }
        }
        let numbered = |name: fn(&FormulaSpec) -> String| -> HashMap<String, usize> {
            spec.formulae.iter().enumerate().map(|(at, formula)| (name(formula), at)).collect()
        };
        let (by_name, by_image) = (numbered(|one| one.name.clone()), numbered(FormulaSpec::image));

        // HTTP dates have whole seconds, and a later publication needs a later date.
        let now = Timestamp::now().as_second();
        let after = previous.as_ref().map_or(now, |one| one.last_modified.as_second() + 1);
        let last_modified = Timestamp::from_second(now.max(after)).unwrap_or_default();

        let mut published = Self {
            spec,
            generator,
            digests,
            known,
            by_name,
            by_image,
            blobs,
            files: BTreeMap::new(),
            last_modified,
            previous,
        };
        let paths = signed::paths(&published);
        published.files = paths.into_iter().map(|path| (path, OnceLock::new())).collect();
        published.files.insert(CATALOGUE.to_owned(), OnceLock::new());
        published
    }

    pub(crate) fn last_modified(&self) -> Timestamp {
        self.last_modified
    }

    /// How many publications there were before this one.
    pub(crate) fn generation(&self) -> usize {
        self.previous.as_ref().map_or(0, |previous| previous.generation() + 1)
    }

    pub(crate) fn formulae(&self) -> impl Iterator<Item = Bottled<'_>> {
        let pairs = self.spec.formulae.iter().zip(&self.digests);
        pairs.map(|(spec, digests)| Bottled { spec, digests })
    }

    /// The formula of that name, as published last.
    pub(crate) fn formula(&self, name: &str) -> Option<Bottled<'_>> {
        self.by_name.get(name).map(|at| self.at(*at))
    }

    /// True if there is an index under that tag of the image.
    pub(crate) fn has_index(&self, image: &str, image_tag: &str) -> bool {
        let own = self.by_image.get(image).map(|at| self.at(*at));
        own.is_some_and(|bottled| bottled.spec.image_tag() == image_tag)
            || self.previous.as_ref().is_some_and(|previous| previous.has_index(image, image_tag))
    }

    /// The index under a tag of an image, also one of an earlier publication.
    pub(crate) fn index(&self, image: &str, image_tag: &str, omit: &Omit) -> Option<Vec<u8>> {
        let own = self.by_image.get(image).map(|at| self.at(*at));
        match own.filter(|bottled| bottled.spec.image_tag() == image_tag) {
            Some(bottled) => Some(index::body(self, &bottled, omit)),
            None => self.previous.as_ref()?.index(image, image_tag, omit),
        }
    }

    /// True if the image has, or had, that blob.
    pub(crate) fn holds(&self, image: &str, digest: &Digest) -> bool {
        self.blobs.get(digest).is_some_and(|blob| blob.images.iter().any(|one| one == image))
            || self.previous.as_ref().is_some_and(|previous| previous.holds(image, digest))
    }

    /// The bytes of a digest, also of one published earlier.
    pub(crate) fn blob(&self, digest: &Digest) -> Option<(Arc<Generator>, Content)> {
        match self.blobs.get(digest) {
            Some(blob) => Some((Arc::clone(&self.generator), blob.content)),
            None => self.previous.as_ref()?.blob(digest),
        }
    }

    /// The file of the API at a path, made at the first call.
    pub(crate) fn file(&self, path: &str) -> Option<&ApiFile> {
        let file = self.files.get(path)?;
        Some(file.get_or_init(|| {
            ApiFile::new(if path == CATALOGUE {
                elements::catalogue(self.formulae(), &self.spec.raw_elements)
            } else {
                signed::body(self, path)
            })
        }))
    }

    fn at(&self, at: usize) -> Bottled<'_> {
        Bottled { spec: &self.spec.formulae[at], digests: &self.digests[at] }
    }
}

impl<'a> Bottled<'a> {
    /// Each bottle with its digest.
    pub(crate) fn bottles(&self) -> impl Iterator<Item = (&'a BottleSpec, &'a Digest)> + use<'a> {
        self.spec.bottles.iter().zip(self.digests)
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

/// Adds the digests that are not known yet.
fn learn(generator: &Generator, spec: &Spec, known: &mut HashMap<Content, Digest>) {
    let bottles = spec.formulae.iter().flat_map(|formula| &formula.bottles);
    let new: HashSet<Content> = bottles.map(content).filter(|content| !known.contains_key(content)).collect();
    let mut new: Vec<Content> = new.into_iter().collect();
    // Largest first: the cores then finish at about the same time.
    new.sort_unstable_by(|a, b| b.cmp(a));
    let digests = generator.digests(&new);
    known.extend(new.into_iter().zip(digests));
}

fn content(bottle: &BottleSpec) -> Content {
    Content { size: bottle.size, id: bottle.content }
}
