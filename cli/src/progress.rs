//! Progress: bars on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::hash_file::ImportProgress;
use common::message::Lane;
use common::plan::PlanProgress;
use common::run::Count;
use common::size::ByteSize;
use common::verify::{Stage, VerifyProgress};
use common::worker::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The bars that log lines must not tear apart.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

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
        let style = ProgressStyle::with_template(
            "{prefix:>6} [{bar:28}] {msg}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
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

/// Runs a plan, and shows how far it is: on the real upstream, reading
/// thousands of image indexes takes minutes.
pub(crate) async fn while_planning<T>(
    progress: &PlanProgress,
    quiet: bool,
    plan: impl Future<Output = T>,
) -> T {
    let look = || {
        let (read, total) = progress.now();
        Step { name: "plan", things: "image indexes read", done: read as u64, total: total as u64 }
    };
    while_at_work(look, quiet, Box::pin(plan)).await
}

/// Runs a look at a mirror, and shows how far it is.
pub(crate) async fn while_verifying<T>(
    progress: &VerifyProgress,
    quiet: bool,
    verify: impl Future<Output = T>,
) -> T {
    let look = || {
        let (stage, done, total) = progress.now();
        let things = match stage {
            Stage::Objects => "objects listed",
            Stage::Indexes => "image indexes read",
            Stage::Bottles => "bottles hashed",
        };
        // How many objects there are shows only at the end.
        Step { name: "verify", things, done, total: total.max(done) }
    };
    while_at_work(look, quiet, Box::pin(verify)).await
}

/// How far some work is.
struct Step {
    name: &'static str,
    things: &'static str,
    done: u64,
    total: u64,
}

async fn while_at_work<T>(
    look: impl Fn() -> Step,
    quiet: bool,
    mut work: Pin<Box<impl Future<Output = T>>>,
) -> T {
    let terminal = io::stderr().is_terminal();
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let bar = if quiet || !terminal { ProgressBar::hidden() } else { all.add(ProgressBar::new(0)) };
    show_above(Some(all));
    bar.set_style(
        ProgressStyle::with_template("{prefix:>6} [{bar:28}] {pos}/{len} {msg}  {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> "),
    );
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut next = Instant::now() + LINE_EVERY;
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => {}
        }
        let Step { name, things, done, total } = look();
        if total > 0 {
            bar.set_prefix(name);
            bar.set_message(things);
            bar.set_length(total);
            bar.set_position(done);
        }
        if !quiet && !terminal && total > 0 && Instant::now() >= next {
            next = Instant::now() + LINE_EVERY;
            let _ = writeln!(io::stderr(), "{name}: {} of {} {things}", grouped(done), grouped(total));
        }
    };
    bar.finish_and_clear();
    show_above(None);
    done
}

/// Runs an import, and shows how far it is: it may read some hundred gigabytes.
pub(crate) async fn while_importing<T>(
    progress: &ImportProgress,
    quiet: bool,
    import: impl Future<Output = T>,
) -> T {
    let terminal = io::stderr().is_terminal();
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let bar = if quiet || !terminal { ProgressBar::hidden() } else { all.add(ProgressBar::new(0)) };
    show_above(Some(all));
    bar.set_style(
        ProgressStyle::with_template(
            "verify [{bar:28}] {msg}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> "),
    );
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut next = Instant::now() + LINE_EVERY;
    tokio::pin!(import);
    let done = loop {
        tokio::select! {
            done = &mut import => break done,
            _ = tick.tick() => {}
        }
        let (read, total) = progress.now();
        bar.set_length(total.bytes);
        bar.set_position(read.bytes);
        bar.set_message(format!("{}/{}", read.bottles, total.bottles));
        if !quiet && !terminal && total.bottles > 0 && Instant::now() >= next {
            next = Instant::now() + LINE_EVERY;
            let (bottles, all) = (grouped(read.bottles), grouped(total.bottles));
            let (bytes, all_bytes) = (ByteSize(read.bytes), ByteSize(total.bytes));
            let _ = writeln!(io::stderr(), "verifying: {bottles} of {all} bottles, {bytes} of {all_bytes}");
        }
    };
    bar.finish_and_clear();
    show_above(None);
    done
}

/// Runs an export or an import across an air gap, and shows how far it is.
pub(crate) async fn while_carrying<T>(
    progress: &common::airgap::Progress,
    quiet: bool,
    work: impl Future<Output = T>,
) -> T {
    let terminal = io::stderr().is_terminal();
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let bar = if quiet || !terminal { ProgressBar::hidden() } else { all.add(ProgressBar::new(0)) };
    show_above(Some(all));
    bar.set_style(
        ProgressStyle::with_template("[{bar:28}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> "),
    );
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut next = Instant::now() + LINE_EVERY;
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => {}
        }
        let (done, total) = progress.now();
        bar.set_length(total);
        bar.set_position(done);
        if !quiet && !terminal && total > 0 && Instant::now() >= next {
            next = Instant::now() + LINE_EVERY;
            let _ = writeln!(io::stderr(), "{} of {}", ByteSize(done), ByteSize(total));
        }
    };
    bar.finish_and_clear();
    show_above(None);
    done
}

/// Log lines appear above these bars from now on.
fn show_above(bars: Option<MultiProgress>) {
    *BARS.lock().unwrap_or_else(PoisonError::into_inner) = bars;
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

/// Writes log lines to standard error, above the bars if there are any.
#[derive(Clone, Copy)]
pub(crate) struct LogWriter;

impl tracing_subscriber::fmt::MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bars = BARS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bars {
            Some(bars) => bars.suspend(|| io::stderr().write_all(bytes))?,
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
