//! A file of a bundle while it is written: under another name, until it is whole.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::ExportError;
use super::volumes::{self, SUFFIX};

/// Where a bundle is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One file of this name.
    File(PathBuf),
    /// Volumes in this folder.
    Folder(PathBuf),
}

/// A file that is not whole yet; removed unless it is published.
pub(super) struct Part {
    path: PathBuf,
    to: PathBuf,
    /// Locked for as long as it is written: what nobody locks, a dead process left.
    file: File,
    is_published: bool,
}

/// What files that are not whole end in.
const UNFINISHED: &str = "part";

impl Target {
    /// What a path names: a folder if it is one, ends with a slash, or takes volumes
    /// of a given size; else a file, which ends in `.tar.zst`.
    pub fn of(path: &Path, is_split: bool) -> Result<Self, ExportError> {
        let refused = |why| Err(ExportError::Target { path: path.to_owned(), why });
        let is_archive = path.file_name().is_some_and(|name| name.as_bytes().ends_with(SUFFIX.as_bytes()));
        if path.is_dir() || path.as_os_str().as_bytes().ends_with(b"/") {
            Ok(Self::Folder(path.to_owned()))
        } else if path.exists() {
            refused("it is there already, and is not overwritten; move it away, or name another")
        } else if is_split && is_archive {
            refused("volumes go to a folder; name one")
        } else if is_split {
            Ok(Self::Folder(path.to_owned()))
        } else if is_archive {
            Ok(Self::File(path.to_owned()))
        } else {
            refused("name a file that ends in .tar.zst, or a folder, with a slash at its end")
        }
    }

    /// Refuses what is there already, makes the folder, and removes what exports left
    /// in it that were killed.
    pub(super) fn prepare(&self, until: Timestamp) -> Result<(), ExportError> {
        let Self::Folder(folder) = self else { return Ok(()) };
        let fail = |error| ExportError::io(folder, &error);
        fs::create_dir_all(folder).map_err(fail)?;
        self.leftovers(until)?;
        for entry in fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let is_volume = || volumes::parse_name(&path.with_extension("")).is_some();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) && is_volume() {
                remove_dead(&path).map_err(|error| ExportError::io(&path, &error))?;
            }
        }
        Ok(())
    }

    /// Makes room for a bundle's volumes: removes those that an export left which was
    /// killed while it gave them their names.
    pub(super) fn clear(&self, until: Timestamp) -> Result<(), ExportError> {
        for path in self.leftovers(until)? {
            fs::remove_file(&path).map_err(|error| ExportError::io(&path, &error))?;
        }
        Ok(())
    }

    /// Volumes up to the same moment without a first one, which comes last: no bundle.
    fn leftovers(&self, until: Timestamp) -> Result<Vec<PathBuf>, ExportError> {
        let Self::Folder(folder) = self else { return Ok(Vec::new()) };
        let fail = |error| ExportError::io(folder, &error);
        let mut left = Vec::new();
        for entry in fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            match volumes::parse_name(&path).filter(|(stamp, _)| *stamp == volumes::stamp(until)) {
                Some((_, 1)) => {
                    let why =
                        "a bundle up to this moment is there already; move it away, or name another folder";
                    return Err(ExportError::Target { path, why });
                }
                Some(_) => left.push(path),
                None => {}
            }
        }
        Ok(left)
    }

    /// Where a volume goes.
    pub(super) fn path(&self, until: Timestamp, volume: u32) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Folder(folder) => folder.join(volumes::name(&volumes::stamp(until), volume)),
        }
    }
}

impl Part {
    /// Begins a file that will be `to`.
    pub(super) fn create(to: PathBuf) -> Result<Self, ExportError> {
        let mut name = to.clone().into_os_string();
        name.push(".");
        name.push(UNFINISHED);
        let path = PathBuf::from(name);
        let fail = |error| ExportError::io(&path, &error);
        loop {
            match File::create_new(&path) {
                Ok(file) => {
                    // A file system without locks does without.
                    let _ = file.try_lock();
                    // Another export may have found it before it was locked.
                    if is_same(&file, &path) {
                        return Ok(Self { path, to, file, is_published: false });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !remove_dead(&path).map_err(fail)? {
                        let why = "another export is writing it";
                        return Err(ExportError::Target { path: to, why });
                    }
                }
                Err(error) => return Err(fail(error)),
            }
        }
    }

    /// The file, to be written by another thread.
    pub(super) fn file(&self) -> Result<File, ExportError> {
        self.file.try_clone().map_err(|error| ExportError::io(&self.path, &error))
    }

    /// Where it is being written.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the whole and durable file its name; where it is now.
    pub(super) fn publish(mut self) -> Result<PathBuf, ExportError> {
        let fail = |error| ExportError::io(&self.to, &error);
        if self.to.exists() {
            let why = "someone else made it meanwhile, and it is not overwritten";
            return Err(ExportError::Target { path: self.to.clone(), why });
        }
        fs::rename(&self.path, &self.to).map_err(fail)?;
        self.is_published = true;
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(fail)?;
        Ok(self.to.clone())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes an unfinished file unless a living process writes it; whether it is gone.
fn remove_dead(path: &Path) -> io::Result<bool> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    };
    match File::open(path) {
        Ok(file) => match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(false),
            _ => gone(fs::remove_file(path)),
        },
        Err(error) => gone(Err(error)),
    }
}

fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_file_or_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("there")).unwrap();
        fs::write(at("old.tar.zst"), b"").unwrap();
        let is_file = |name: &str, split| Target::of(&at(name), split).ok() == Some(Target::File(at(name)));
        let is_folder =
            |name: &str, split| Target::of(&at(name), split).ok() == Some(Target::Folder(at(name)));
        assert!(is_file("x.tar.zst", false));
        assert!(is_folder("there", false) && is_folder("new/", false) && is_folder("new", true));
        for (name, split) in
            [("x", false), ("x.tar.zst", true), ("old.tar.zst", false), ("old.tar.zst", true)]
        {
            assert!(Target::of(&at(name), split).is_err(), "{name} {split}");
        }
    }

    #[test]
    fn what_is_not_published_leaves_nothing_and_two_exports_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("x.tar.zst");
        // As a killed export leaves it.
        fs::write(folder.path().join("x.tar.zst.part"), b"half").unwrap();
        let part = Part::create(to.clone()).unwrap();
        assert_eq!(fs::read(part.path()).unwrap(), b"");
        assert!(Part::create(to.clone()).is_err(), "two exports write one file");
        drop(part);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(Part::create(to.clone()).unwrap().publish().unwrap(), to);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Part::create(to.clone()).unwrap().publish().is_err(), "it was overwritten");
    }
}
