//! Whether the worker is well, for the container's health check: a file that is
//! touched while it is, since the container has no shell to ask with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::mirror::Mirror;
use common::worker::Activity;
use tokio::time::Instant;

const TOUCHED_EVERY: Duration = Duration::from_secs(10);

/// A file that is older means that the process hangs, or is gone.
const STALE_AFTER: Duration = Duration::from_mins(1);

/// Without any sign of life for this long the worker hangs. Longer than an empty
/// poll of 20 s, and than upstream is waited for in the middle of a transfer.
const SILENT_AFTER: Duration = Duration::from_mins(5);

/// Touches `file` while the worker shows signs of life: its loop goes round, or
/// bytes arrive.
pub async fn keep(file: PathBuf, activity: Activity, mirror: Arc<Mirror>) {
    let mut received = (mirror.received(), Instant::now());
    loop {
        let now = mirror.received();
        if now != received.0 {
            received = (now, Instant::now());
        }
        let silent = activity.since_turn().min(received.1.elapsed());
        if silent > SILENT_AFTER {
            tracing::error!(silent_seconds = silent.as_secs(), "the worker hangs");
        } else if let Err(error) = fs::write(&file, "") {
            tracing::error!(file = %file.display(), %error, "the health file can't be written");
        }
        tokio::time::sleep(TOUCHED_EVERY).await;
    }
}

/// Whether the file was touched lately; what is wrong if it wasn't.
pub fn check(file: &Path) -> Result<(), String> {
    let modified = fs::metadata(file).and_then(|meta| meta.modified());
    let modified = modified.map_err(|error| format!("{}: {error}", file.display()))?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    if age > STALE_AFTER {
        return Err(format!("{} was last touched {} s ago", file.display(), age.as_secs()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_or_old_is_no_health() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("healthy");
        assert!(check(&file).is_err());
        fs::write(&file, "").unwrap();
        assert_eq!(check(&file), Ok(()));
        let old = SystemTime::now() - STALE_AFTER - Duration::from_secs(5);
        fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert!(check(&file).unwrap_err().contains("65 s ago"));
    }
}
