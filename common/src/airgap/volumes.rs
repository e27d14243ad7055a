//! Which files are a bundle's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::ImportError;
use super::bundle::Header;
use super::volume::Reader;

/// What a bundle's files end in.
pub(super) const SUFFIX: &str = ".tar.zst";

/// What the names of volumes begin with.
const PREFIX: &str = "bottles-";

/// The files of one bundle, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// What its first volume says.
    pub(super) header: Header,
    pub(super) volumes: Vec<PathBuf>,
    /// Whether it was named itself, and not the folder that it is in.
    pub(super) is_alone: bool,
}

/// A bundle that lacks a volume, or whose first one can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// Where it ends, as its volumes' names say.
    pub(super) stamp: String,
    /// The volume that is missing, or can't be read.
    pub(super) volume: PathBuf,
    /// What its first volume says, if that is there.
    pub(super) header: Option<Header>,
}

/// A moment in the names of volumes. Of two changes of a manifest the later one is at
/// least a millisecond later, so that this tells all of them apart, and in order.
pub(super) fn stamp(until: Timestamp) -> String {
    until.strftime("%Y%m%dT%H%M%S%3fZ").to_string()
}

/// The name of a volume.
pub(super) fn name(stamp: &str, volume: u32) -> String {
    format!("{PREFIX}{stamp}-{volume:04}{SUFFIX}")
}

/// The stamp and the number of a volume, by its name; `None` if it is no volume.
pub(super) fn parse_name(path: &Path) -> Option<(String, u32)> {
    let rest = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let (stamp, number) = rest.rsplit_once('-')?;
    let volume = number.parse().ok().filter(|volume| name(stamp, *volume) == name_of(path))?;
    Some((stamp.to_owned(), volume))
}

/// The bundles of a file or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundles {
    /// The earliest first; of two with the same end the one that brings more.
    pub(super) found: Vec<Found>,
    pub(super) broken: Vec<Broken>,
}

impl Bundles {
    /// Looks for them. What else is in a folder is passed over.
    pub async fn find(path: &Path) -> Result<Self, ImportError> {
        let fail =
            |error: std::io::Error| ImportError::Input { path: path.to_owned(), cause: error.to_string() };
        if fs::metadata(path).map_err(fail)?.is_dir() {
            return Self::in_folder(path, fs::read_dir(path).map_err(fail)?).await;
        }
        let header = Reader::header_of(path).await?;
        if header.volume != 1 {
            return Err(ImportError::OneOfMany(path.to_owned()));
        }
        let found = Found { header, volumes: vec![path.to_owned()], is_alone: true };
        Ok(Self { found: vec![found], broken: Vec::new() })
    }

    async fn in_folder(folder: &Path, entries: fs::ReadDir) -> Result<Self, ImportError> {
        let mut bundles: BTreeMap<String, BTreeMap<u32, PathBuf>> = BTreeMap::new();
        for entry in entries {
            let entry = entry
                .map_err(|error| ImportError::Input { path: folder.to_owned(), cause: error.to_string() })?;
            if let Some((stamp, volume)) = parse_name(&entry.path()) {
                bundles.entry(stamp).or_default().insert(volume, entry.path());
            }
        }
        if bundles.is_empty() {
            return Err(ImportError::NoBundle(folder.to_owned()));
        }
        let mut all = Self { found: Vec::new(), broken: Vec::new() };
        for (stamp, volumes) in bundles {
            all.add(folder, stamp, volumes).await;
        }
        all.found.sort_by_key(|found| (found.header.interval.until, found.header.interval.since));
        Ok(all)
    }

    /// Looks whether all volumes seem to be there. Only the last one says itself whether
    /// it is the last.
    async fn add(&mut self, folder: &Path, stamp: String, volumes: BTreeMap<u32, PathBuf>) {
        let gap = (1..).zip(volumes.keys()).find(|(expected, number)| expected != *number);
        let gap = gap.map(|(expected, _)| expected);
        let header = match volumes.get(&1) {
            Some(first) => Reader::header_of(first).await.ok(),
            None => None,
        };
        match (header, gap) {
            (Some(header), None) => {
                let volumes = volumes.into_values().collect();
                self.found.push(Found { header, volumes, is_alone: false });
            }
            (header, gap) => {
                let volume = folder.join(name(&stamp, gap.unwrap_or(1)));
                self.broken.push(Broken { stamp, volume, header });
            }
        }
    }
}

impl Broken {
    /// What is wrong with it.
    pub(super) async fn error(&self) -> ImportError {
        if self.volume.exists()
            && let Err(error) = Reader::header_of(&self.volume).await
        {
            return error;
        }
        ImportError::MissingVolume(self.volume.clone())
    }
}

/// The name of the volume that should follow the one at `path`.
pub(super) fn next(path: &Path) -> Option<PathBuf> {
    let (stamp, volume) = parse_name(path)?;
    Some(path.with_file_name(name(&stamp, volume + 1)))
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_known_by_its_name_and_nothing_else_is() {
        let stamp = stamp("2026-11-01T06:00:00.123456Z".parse().unwrap());
        let first = name(&stamp, 1);
        assert_eq!(first, "bottles-20261101T060000123Z-0001.tar.zst");
        assert_eq!(parse_name(Path::new(&first)), Some((stamp.clone(), 1)));
        assert_eq!(parse_name(Path::new(&name(&stamp, 12_345))), Some((stamp.clone(), 12_345)));
        assert_eq!(next(Path::new("/x").join(&first).as_path()), Some(Path::new("/x").join(name(&stamp, 2))));
        for other in [
            "bottles-20261101T060000123Z-1.tar.zst",
            "bottles-20261101T060000123Z-+001.tar.zst",
            "bottles-20261101T060000123Z-0001.tar.zst.part",
            "bottles-20261101T060000123Z-0001 (1).tar.zst",
            "notes.txt",
            "bottles-.tar.zst",
        ] {
            assert_eq!(parse_name(Path::new(other)), None, "{other}");
        }
    }
}
