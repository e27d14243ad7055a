//! Which of the processes that share a folder are still alive.
//!
//! Each process holds a lock on a file of its own. The kernel lets go of the
//! lock when the process ends, however it ends, so that others can tell and
//! take back what the dead one held: its messages, its unfinished files.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A process's presence in a folder; ends when it is dropped.
#[derive(Debug)]
pub struct Owner {
    id: String,
    path: PathBuf,
    _lock: File,
}

impl Owner {
    /// Announces this process in `folder`, which is made if need be.
    pub fn announce(folder: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(folder)?;
        loop {
            // The clock tells a reused process id from its predecessor.
            let nanos = jiff::Timestamp::now().as_nanosecond();
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let id = format!("{}-{nanos:x}-{count}", std::process::id());
            let path = lock_path(folder, &id);
            let lock = File::create_new(&path)?;
            lock.lock()?;
            // Someone may have found the file before it was locked, and removed it.
            if path.exists() {
                return Ok(Self { id, path, _lock: lock });
            }
        }
    }

    /// A name that no other process has or had.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A file that stays is taken for a dead process's, which this one then is.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the process that announced itself as `id` in `folder` is gone.
pub fn is_dead(folder: &Path, id: &str) -> bool {
    match File::open(lock_path(folder, id)) {
        Ok(file) => !matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Removes the lock files of dead processes.
pub fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().and_then(|name| name.strip_suffix(".lock")).is_none() {
            continue;
        }
        // Removed while it is locked: a process that is just announcing itself
        // waits for the lock, finds its file gone, and begins again.
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn lock_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_its_lock_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::announce(folder.path()).unwrap();
        let id = owner.id().to_owned();
        assert!(!is_dead(folder.path(), &id));
        sweep(folder.path()).unwrap();
        assert!(!is_dead(folder.path(), &id));
        drop(owner);
        assert!(is_dead(folder.path(), &id));
    }

    #[test]
    fn a_lock_file_that_nobody_locks_is_a_dead_process() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(lock_path(folder.path(), "77-1-0"), "").unwrap();
        assert!(is_dead(folder.path(), "77-1-0"));
        sweep(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
