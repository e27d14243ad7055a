//! The two lanes of a sync: a bar each, or a line for both.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

use common::message::Lane;
use common::run::Count;
use common::size::ByteSize;
use common::worker::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use super::log::show_above;
use super::{LINE_EVERY, style};
use crate::output::grouped;

/// Shows how far the lanes are, on standard error.
pub(crate) enum Display {
    Bars { bars: Vec<(Watched, ProgressBar)> },
    Lines { lanes: Vec<Watched>, started: Instant, next: Instant },
    Nothing,
}

/// One lane that is watched.
pub(crate) struct Watched {
    pub(crate) lane: Lane,
    pub(crate) planned: Count,
    pub(crate) progress: Progress,
}

impl Display {
    /// Bars if standard error is a terminal; lanes with nothing to do are left out.
    pub(crate) fn new(lanes: Vec<Watched>, quiet: bool) -> Self {
        let lanes: Vec<_> = lanes.into_iter().filter(|lane| lane.planned.bottles > 0).collect();
        if quiet || lanes.is_empty() {
            return Self::Nothing;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines { lanes, started: Instant::now(), next: Instant::now() + LINE_EVERY };
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = style("{prefix:>6} [{bar:28}] {msg}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
        let bars = lanes
            .into_iter()
            .map(|watched| {
                let bar = all.add(ProgressBar::new(watched.planned.bytes));
                bar.set_style(style.clone());
                bar.set_prefix(watched.lane.as_str());
                (watched, bar)
            })
            .collect();
        show_above(Some(all));
        Self::Bars { bars }
    }

    /// Shows the state of things.
    pub(crate) fn update(&mut self) {
        match self {
            Self::Bars { bars } => {
                for (watched, bar) in bars {
                    let finished = watched.finished();
                    bar.set_position(finished.bytes);
                    bar.set_message(format!("{}/{}", finished.bottles, watched.planned.bottles));
                }
            }
            Self::Lines { lanes, started, next } if Instant::now() >= *next => {
                *next = Instant::now() + LINE_EVERY;
                let parts: Vec<_> = lanes.iter().map(Watched::describe).collect();
                let _ = writeln!(io::stderr(), "{:>4} s  {}", started.elapsed().as_secs(), parts.join(";  "));
            }
            Self::Lines { .. } | Self::Nothing => {}
        }
    }

    /// Takes the bars away.
    pub(crate) fn end(&mut self) {
        self.update();
        if let Self::Bars { bars } = self {
            for (_, bar) in bars {
                bar.abandon();
            }
            show_above(None);
        }
    }
}

impl Watched {
    fn finished(&self) -> Count {
        self.progress.now().finished()
    }

    fn describe(&self) -> String {
        let finished = self.finished();
        format!(
            "{}: {} of {} bottles, {} of {}",
            self.lane,
            grouped(finished.bottles),
            grouped(self.planned.bottles),
            ByteSize(finished.bytes),
            ByteSize(self.planned.bytes)
        )
    }
}
