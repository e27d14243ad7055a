//! Where a bundle begins.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::run::{RunId, RunRecord};
use crate::store::Store;

use super::ExportError;

/// Where a bundle begins, as it is asked for: `start`, `2026-11-01`,
/// `2026-11-01T06:00:00Z`, or a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// With the mirror's beginning.
    Start,
    /// After a moment.
    Time(Timestamp),
    /// When a run began.
    Run(RunId),
}

/// Text that names no beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no date (2026-11-01), no time (2026-11-01T06:00:00Z), no run, and not `start`")]
pub struct InvalidSince(String);

impl Since {
    /// The moment after which things are new; `None` for the beginning.
    pub(super) async fn resolve(
        &self,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, ExportError> {
        let at = match self {
            Self::Start => return Ok(None),
            Self::Time(at) => *at,
            Self::Run(run) => match RunRecord::load(store, run).await? {
                Some(record) => record.started_at,
                None => return Err(ExportError::UnknownRun(run.clone())),
            },
        };
        if at > now { Err(ExportError::Future(at)) } else { Ok(Some(at)) }
    }
}

impl FromStr for Since {
    type Err = InvalidSince;

    fn from_str(text: &str) -> Result<Self, InvalidSince> {
        let refuse = || InvalidSince(text.to_owned());
        if text == "start" {
            return Ok(Self::Start);
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::Time(at));
        }
        if let Some(date) =
            Some(text).filter(|text| text.len() == 10).and_then(|text| text.parse::<Date>().ok())
        {
            let midnight = date.to_zoned(TimeZone::UTC).map_err(|_| refuse())?;
            return Ok(Self::Time(midnight.timestamp()));
        }
        text.parse().map(Self::Run).map_err(|_| refuse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_date_a_time_or_a_run() {
        let time = |text: &str| Ok(Since::Time(text.parse().unwrap()));
        assert_eq!("start".parse(), Ok(Since::Start));
        assert_eq!("2026-11-01".parse::<Since>(), time("2026-11-01T00:00:00Z"));
        assert_eq!("2026-11-01T06:00:00.123456789Z".parse::<Since>(), time("2026-11-01T06:00:00.123456789Z"));
        assert_eq!("2026-11-01T06:00:00+02:00".parse::<Since>(), time("2026-11-01T04:00:00Z"));
        let run = "20261101T060000000Z-3fa8";
        assert_eq!(run.parse(), Ok(Since::Run(run.parse().unwrap())));
        for text in ["", "last week", "2026/11/01", "../x"] {
            assert!(text.parse::<Since>().is_err(), "{text:?} was taken");
        }
    }
}
