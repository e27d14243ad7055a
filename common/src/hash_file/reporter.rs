//! Says what became of bottles: to whoever imports, and by receipts to settle.

use crate::message::Message;
use crate::receipt::{Entry, Outcome, Receipt};
use crate::run::RunId;

use super::fate::{Fate, Judged};
use super::identify::{Bottle, Target};
use super::import::{ImportError, Importer};
use super::report::ImportReport;

/// One receipt reports at most this many bottles.
const LARGEST_BATCH: usize = 256;

/// Counts what became of bottles, and reports those that are held, and those that
/// something else lies in place of.
pub(super) struct Reporter<'a> {
    pub(super) importer: &'a Importer,
    pub(super) run: RunId,
    pub(super) report: ImportReport,
    entries: Vec<Entry>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(importer: &'a Importer, run: RunId, report: ImportReport) -> Self {
        Self { importer, run, report, entries: Vec::new() }
    }

    pub(super) async fn take(&mut self, bottle: &Bottle, judged: Vec<Judged>) -> Result<(), ImportError> {
        for one in judged {
            self.count(bottle, &one);
            self.note(bottle, one);
        }
        if self.entries.len() >= LARGEST_BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    fn count(&mut self, bottle: &Bottle, judged: &Judged) {
        let report = &mut self.report;
        if judged.fate.is_taken() && !bottle.is_listed {
            report.unlisted.add(bottle.size);
        }
        if judged.lost_at.is_some() {
            report.lost.add(bottle.size);
        }
        let count = match &judged.fate {
            Fate::Recorded => &mut report.recorded,
            Fate::Held => &mut report.held,
            Fate::Adopted => &mut report.adopted,
            Fate::Copied => &mut report.copied,
            Fate::Trusted { .. } => &mut report.trusted,
            Fate::Skipped(why, detail) => return report.skipped.extend(bottle.skipped(*why, detail)),
        };
        count.add(bottle.size);
    }

    /// A worker takes for held what has a bottle's size under its key. So what was found
    /// to be something else is reported as missing, and replaced by the next plan.
    fn note(&mut self, bottle: &Bottle, judged: Judged) {
        let Judged { target, fate, lost_at } = judged;
        let (outcome, at) = match (fate, lost_at) {
            (_, Some(at)) => (Outcome::Missing, at),
            (Fate::Recorded | Fate::Trusted { again: true } | Fate::Skipped(..), None) => return,
            (_, None) => (Outcome::Held, self.importer.clock.now()),
        };
        let replace = outcome == Outcome::Missing;
        let message = Message { replace, ..message(&self.run, bottle, target) };
        self.entries.push(Entry { message, at, outcome });
    }

    /// Writes the receipts of what was taken.
    pub(super) async fn flush(&mut self) -> Result<(), ImportError> {
        let Importer { store, clock, settings, .. } = self.importer;
        let mut entries = std::mem::take(&mut self.entries);
        while !settings.dry_run && !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(LARGEST_BATCH));
            let receipt = Receipt { entries, ..Receipt::default() };
            settings.retry.run(|| receipt.save(&**store, clock.now()), |_, _| {}).await?;
            entries = rest;
        }
        Ok(())
    }

    pub(super) fn end(mut self) -> ImportReport {
        self.report.skipped.sort();
        // A bottle that two images lack.
        self.report.skipped.dedup();
        self.report
    }
}

fn message(run: &RunId, bottle: &Bottle, target: Target) -> Message {
    let Target { formula, origin, image, image_tag, tags, file } = target;
    Message {
        run: run.clone(),
        formula,
        origin,
        image,
        image_tag,
        tags,
        digest: bottle.digest,
        size: bottle.size,
        copy_from: None,
        file,
        replace: false,
    }
}
