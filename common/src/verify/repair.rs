//! What is missing or damaged is asked for again.

use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt as _, stream};

use crate::bottle::ObjectKey;
use crate::message::{Lane, Message};
use crate::receipt::{Entry, Order, Outcome, Receipt, What};
use crate::run::RunId;

use super::finding::{Finding, Remedy, Repair, Subject};
use super::report::{Repaired, Report};
use super::{Verifier, VerifyError, naming};

/// One receipt reports at most this many bottles, or asks for so many things.
const LARGEST_BATCH: usize = 256;

impl Verifier {
    /// Does about each finding what can be done, and says so in the report.
    ///
    /// It may fail or be killed at any point: what was sent and not reported is sent
    /// again the next time, and a bottle that comes twice harms nobody.
    pub async fn repair(&self, report: &mut Report) -> Result<(), VerifyError> {
        let mut repaired = Repaired::of(RunId::new(self.clock.now()));
        self.fetch_again(&mut report.findings, &mut repaired).await?;
        self.order(&report.asked, &mut report.findings, &mut repaired).await?;
        self.copy_again(&mut report.findings, &mut repaired).await;
        for finding in report.findings.iter_mut().filter(|finding| finding.wrong && finding.repair.is_none())
        {
            if let Some(Remedy::None(why)) = finding.remedy {
                finding.repair = Some(Repair::Nothing { why: why.to_owned() });
            }
        }
        let is_left = |finding: &&Finding| matches!(finding.repair, Some(Repair::Nothing { .. }));
        repaired.left = report.findings.iter().filter(is_left).count() as u64;
        report.repair = Some(repaired);
        Ok(())
    }

    /// Queues what is missing or damaged, each bottle once.
    async fn fetch_again(
        &self,
        findings: &mut [Finding],
        repaired: &mut Repaired,
    ) -> Result<(), VerifyError> {
        let mut messages: BTreeMap<ObjectKey, Message> = BTreeMap::new();
        for finding in findings.iter_mut().filter(|finding| finding.wrong) {
            let Some(Remedy::Fetch(message)) = &finding.remedy else { continue };
            let message = Message { run: repaired.run.clone(), ..(**message).clone() };
            finding.repair = Some(if self.can_send(&message) {
                Repair::Queued { lane: self.lane(&message) }
            } else {
                Repair::Reported
            });
            messages.insert(finding.key.clone(), message);
        }
        let messages: Vec<Message> = messages.into_values().collect();
        self.send(&messages, repaired).await
    }

    /// Whether a worker can do anything with a message. Where a host's file is may have
    /// been lost with an earlier manifest; the next plan knows.
    pub(super) fn can_send(&self, message: &Message) -> bool {
        let is_lost = message.file.is_none() && naming::is_of_file_host(&message.image);
        self.settings.is_fed_by_plans && !is_lost
    }

    /// Sends messages for bottles that are missing or damaged, and reports them so. What
    /// is reported and has no message is forgotten by a settle, and planned anew.
    pub(super) async fn send(
        &self,
        messages: &[Message],
        repaired: &mut Repaired,
    ) -> Result<(), VerifyError> {
        for batch in messages.chunks(LARGEST_BATCH) {
            // Before any of them can be worked on: what is reported of them is later.
            let at = self.clock.now();
            for lane in Lane::ALL {
                let bodies: Vec<_> = batch
                    .iter()
                    .filter(|message| self.lane(message) == lane && self.can_send(message))
                    .map(Message::to_outgoing)
                    .collect();
                if let Some(queue) = self.queues.get(&lane).filter(|_| !bodies.is_empty()) {
                    queue.send(&bodies).await?;
                }
            }
            let missing =
                |message: &Message| Entry { message: message.clone(), at, outcome: Outcome::Missing };
            let entries = batch.iter().map(missing).collect();
            self.save(&Receipt { entries, ..Receipt::default() }).await?;
            for message in batch {
                if !self.can_send(message) {
                    repaired.reported += 1;
                    continue;
                }
                match self.lane(message) {
                    Lane::Small => repaired.small.add(message.size),
                    Lane::Large => repaired.large.add(message.size),
                }
            }
        }
        Ok(())
    }

    /// Asks the producer for what only it may write, each once.
    async fn order(
        &self,
        asked: &[What],
        findings: &mut [Finding],
        repaired: &mut Repaired,
    ) -> Result<(), VerifyError> {
        let mut new: Vec<What> = Vec::new();
        for finding in findings.iter_mut().filter(|finding| finding.wrong) {
            let Some(Remedy::Order(what)) = &finding.remedy else { continue };
            if is_asked(asked, what) {
                finding.repair = Some(Repair::AlreadyOrdered);
                continue;
            }
            finding.repair = Some(Repair::Ordered);
            if !new.contains(what) {
                new.push(what.clone());
            }
        }
        repaired.orders = new.len() as u64;
        let at = self.clock.now();
        for batch in merged(new).chunks(LARGEST_BATCH) {
            let orders = batch.iter().map(|what| Order { at, what: what.clone() }).collect();
            self.save(&Receipt { orders, ..Receipt::default() }).await?;
        }
        Ok(())
    }

    async fn save(&self, receipt: &Receipt) -> Result<(), VerifyError> {
        // Each try has a key of its own; a receipt that is folded twice says nothing new.
        Ok(self.patient(|| receipt.save(&*self.store, self.clock.now())).await?)
    }

    /// Copies sound bottles to their flat names.
    async fn copy_again(&self, findings: &mut [Finding], repaired: &mut Repaired) {
        let damaged: HashSet<ObjectKey> = findings
            .iter()
            .filter(|finding| finding.wrong && finding.subject == Subject::Bottle)
            .map(|finding| finding.key.clone())
            .collect();
        let copies = findings.iter_mut().filter(|finding| finding.wrong).filter_map(|finding| {
            let Some(Remedy::Copy { from, to }) = finding.remedy.clone() else { return None };
            Some((finding, from, to))
        });
        let damaged = &damaged;
        let copies = copies.map(|(finding, from, to)| async move {
            finding.repair = Some(if damaged.contains(&from) {
                let why = "its bottle is damaged too: verify again when that one is repaired";
                Repair::Nothing { why: why.to_owned() }
            } else {
                match self.patient(|| self.store.copy(&from, &to)).await {
                    Ok(true) => Repair::Copied,
                    Ok(false) => Repair::Nothing { why: format!("there is nothing to copy at {from}") },
                    Err(error) => Repair::Nothing { why: error.to_string() },
                }
            });
            u64::from(finding.repair == Some(Repair::Copied))
        });
        let made = stream::iter(copies).buffer_unordered(self.settings.concurrency);
        repaired.copies = made.fold(0, |sum, made| async move { sum + made }).await;
    }
}

/// Whether the producer was asked for it before.
fn is_asked(asked: &[What], what: &What) -> bool {
    asked.iter().any(|earlier| match (earlier, what) {
        (What::Republish { paths: earlier }, What::Republish { paths }) => {
            paths.iter().all(|path| earlier.contains(path))
        }
        (earlier, what) => earlier == what,
    })
}

/// The same with one order for all API files.
fn merged(orders: Vec<What>) -> Vec<What> {
    let mut merged = Vec::new();
    let mut all = Vec::new();
    for order in orders {
        match order {
            What::Republish { paths } => all.extend(paths),
            other => merged.push(other),
        }
    }
    if !all.is_empty() {
        merged.push(What::Republish { paths: all });
    }
    merged
}
