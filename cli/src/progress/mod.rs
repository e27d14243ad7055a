//! Progress: bars on a terminal, a line now and then elsewhere.

mod display;
mod log;

use std::io::{self, IsTerminal as _, Write as _};
use std::pin::Pin;
use std::time::{Duration, Instant};

use common::hash_file::ImportProgress;
use common::plan::PlanProgress;
use common::size::ByteSize;
use common::verify::{Stage, VerifyProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::grouped;

pub(crate) use display::{Display, Watched};
pub(crate) use log::LogWriter;
use log::show_above;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Runs a plan, and shows how far it is: on the real upstream, reading
/// thousands of image indexes takes minutes.
pub(crate) async fn while_planning<T>(
    progress: &PlanProgress,
    quiet: bool,
    plan: impl Future<Output = T>,
) -> T {
    let look = || {
        let (read, total) = progress.now();
        Sight::of_things("plan", "image indexes read", read as u64, total as u64)
    };
    // Indented as the lanes' names are, whose bars come next in a sync.
    while_at_work("  plan [{bar:28}] {pos}/{len} {msg}  {eta} left", look, quiet, Box::pin(plan)).await
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
        Sight::of_things("verify", things, done, total.max(done))
    };
    while_at_work("verify [{bar:28}] {pos}/{len} {msg}  {eta} left", look, quiet, Box::pin(verify)).await
}

/// Runs an import, and shows how far it is: it may read some hundred gigabytes.
pub(crate) async fn while_importing<T>(
    progress: &ImportProgress,
    quiet: bool,
    import: impl Future<Output = T>,
) -> T {
    let template = "verify [{bar:28}] {msg}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    let look = || {
        let (read, total) = progress.now();
        let line = || {
            let (bottles, all) = (grouped(read.bottles), grouped(total.bottles));
            let (bytes, all_bytes) = (ByteSize(read.bytes), ByteSize(total.bytes));
            format!("verifying: {bottles} of {all} bottles, {bytes} of {all_bytes}")
        };
        Some(Sight {
            position: read.bytes,
            length: total.bytes,
            message: format!("{}/{}", read.bottles, total.bottles),
            line: (total.bottles > 0).then(line),
        })
    };
    while_at_work(template, look, quiet, Box::pin(import)).await
}

/// Runs an export or an import across an air gap, and shows how far it is.
pub(crate) async fn while_carrying<T>(
    progress: &common::airgap::Progress,
    quiet: bool,
    work: impl Future<Output = T>,
) -> T {
    let template = "[{bar:28}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    let look = || {
        let (done, total) = progress.now();
        let line = || format!("{} of {}", ByteSize(done), ByteSize(total));
        Some(Sight { position: done, length: total, message: String::new(), line: (total > 0).then(line) })
    };
    while_at_work(template, look, quiet, Box::pin(work)).await
}

/// How far some work is.
struct Sight {
    position: u64,
    length: u64,
    message: String,
    /// What is written where there is no bar; nothing while it would say nothing.
    line: Option<String>,
}

impl Sight {
    /// Nothing while it isn't known how many there are.
    fn of_things(name: &str, things: &str, done: u64, total: u64) -> Option<Self> {
        (total > 0).then(|| Self {
            position: done,
            length: total,
            message: things.to_owned(),
            line: Some(format!("{name}: {} of {} {things}", grouped(done), grouped(total))),
        })
    }
}

/// Works, and shows every now and then what there is to see.
async fn while_at_work<T>(
    template: &str,
    look: impl Fn() -> Option<Sight>,
    quiet: bool,
    mut work: Pin<Box<impl Future<Output = T>>>,
) -> T {
    let terminal = io::stderr().is_terminal();
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let bar = if quiet || !terminal { ProgressBar::hidden() } else { all.add(ProgressBar::new(0)) };
    show_above(Some(all));
    bar.set_style(style(template));
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut next = Instant::now() + LINE_EVERY;
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => {}
        }
        let Some(Sight { position, length, message, line }) = look() else { continue };
        bar.set_message(message);
        bar.set_length(length);
        bar.set_position(position);
        if let Some(line) = line.filter(|_| !quiet && !terminal && Instant::now() >= next) {
            next = Instant::now() + LINE_EVERY;
            let _ = writeln!(io::stderr(), "{line}");
        }
    };
    bar.finish_and_clear();
    show_above(None);
    done
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
