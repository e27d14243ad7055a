//! Where everything is: formulae by name and image, bottles by digest and file.

use std::collections::HashMap;

use crate::content::{Content, Digest};
use crate::draft::content;
use crate::tap::{Bottled, Tap};

/// The way from each name to what it names.
#[derive(Debug, Default)]
pub(crate) struct Places {
    by_name: HashMap<String, Place>,
    by_image: HashMap<String, Place>,
    by_file: HashMap<String, Digest>,
    blobs: HashMap<Digest, Blob>,
}

/// A formula, by the numbers of its tap and of itself therein.
type Place = (usize, usize);

#[derive(Debug)]
struct Blob {
    content: Content,
    /// Below `/v2/`; none if it is a file of the plain host alone.
    images: Vec<String>,
}

impl Places {
    pub(crate) fn new(taps: &[Tap]) -> Self {
        let mut places = Self::default();
        for (number, tap) in taps.iter().enumerate() {
            for (at, bottled) in tap.formulae().enumerate() {
                places.add(&bottled, (number, at));
            }
        }
        places
    }

    fn add(&mut self, bottled: &Bottled<'_>, place: Place) {
        let image = bottled.repository();
        for (bottle, digest) in bottled.bottles() {
            let new = || Blob { content: content(bottle), images: Vec::with_capacity(1) };
            self.blobs.entry(*digest).or_insert_with(new).images.extend(image.clone());
            self.by_file.extend(bottled.file_path(&bottle.tag).map(|path| (path, *digest)));
        }
        self.by_name.insert(bottled.full_name(), place);
        self.by_image.extend(image.map(|image| (image, place)));
    }

    /// The formula of a full name.
    pub(crate) fn formula<'a>(&self, taps: &'a [Tap], name: &str) -> Option<Bottled<'a>> {
        self.by_name.get(name).map(|(tap, at)| taps[*tap].at(*at))
    }

    /// The formula of an image below `/v2/`.
    pub(crate) fn image<'a>(&self, taps: &'a [Tap], image: &str) -> Option<Bottled<'a>> {
        self.by_image.get(image).map(|(tap, at)| taps[*tap].at(*at))
    }

    /// The bottle at a path of the plain host, not escaped.
    pub(crate) fn file(&self, path: &str) -> Option<&Digest> {
        self.by_file.get(path)
    }

    /// What a digest is of.
    pub(crate) fn content(&self, digest: &Digest) -> Option<Content> {
        self.blobs.get(digest).map(|blob| blob.content)
    }

    /// True if the image below `/v2/` has that bottle.
    pub(crate) fn holds(&self, image: &str, digest: &Digest) -> bool {
        self.blobs.get(digest).is_some_and(|blob| blob.images.iter().any(|one| one == image))
    }
}
