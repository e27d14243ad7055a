//! How many files may be open at once, and how many connections that is enough for.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than clients of one mirror need, and what macOS lets a process have at most.
const MOST: u64 = 10_240;

/// For the log, the listener, the runtime, and what the store keeps open by itself.
const OTHERS: u64 = 64;

/// What a download takes: the client's connection, and the file or S3's connection.
const A_DOWNLOAD: u64 = 2;

/// Raises the limit on open files as far as this process may; how many connections there
/// may be then.
pub(super) fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let now = limit.current.unwrap_or(MOST);
    let wanted = limit.maximum.unwrap_or(MOST).min(MOST);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    let files = if wanted > now && setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { now };
    enough_for(files)
}

fn enough_for(files: u64) -> usize {
    let connections = files.min(MOST).saturating_sub(OTHERS) / A_DOWNLOAD;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

/// Whether something failed because too many files are open: it may go well a moment later.
pub(super) fn are_short(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_files_for_its_download() {
        for (files, connections) in [(0, 1), (64, 1), (65, 1), (68, 2), (1_024, 480), (u64::MAX, 5_088)] {
            assert_eq!(enough_for(files), connections, "{files}");
        }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(MOST).min(MOST);
        assert_eq!(connections(), enough_for(getrlimit(Resource::Nofile).current.unwrap_or(MOST)));
        assert!(getrlimit(Resource::Nofile).current.is_none_or(|now| now >= most));
    }

    #[test]
    fn a_want_of_open_files_passes() {
        for (errno, passes) in [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::ACCESS, false)] {
            assert_eq!(are_short(&io::Error::from(errno)), passes, "{errno}");
        }
        assert!(!are_short(&io::Error::other("x")));
    }
}
