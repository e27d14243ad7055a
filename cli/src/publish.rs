//! `bottles publish`: what clients read, and what an operator makes of it.

use std::collections::BTreeMap;

use common::bottle::BottleTag;
use common::manifest::{self, Manifest};
use common::publication::{PublishReport, Published, Scope, Staged, Waiting};
use common::receipt::{Order, Receipt, What};
use common::settle;
use jiff::Timestamp;
use serde::Serialize;

use crate::args::PublishOptions;
use crate::deployed::{self, Named, Target};
use crate::output::{self, Exit, Usage, line};

#[derive(Serialize)]
pub(crate) struct Answer {
    /// What each scope reads.
    published: BTreeMap<Scope, Published>,
    /// What each scope read before, which a rollback puts back.
    previous: BTreeMap<Scope, Published>,
    /// Clients whose newest files wait.
    waiting: Vec<Waiting>,
    /// Since when a rollback holds publishing back.
    held_since: Option<Timestamp>,
    /// Whether something was asked of a deployed system, which does it with its next settle.
    asked: bool,
}

pub(crate) async fn run(options: PublishOptions) -> anyhow::Result<Exit> {
    let named = Named::of(&options.target);
    let target = deployed::open(&options.target.place, named).await?;
    let clients = options.tag.clone();
    let what = match &options {
        PublishOptions { despite_dead: true, .. } => Some(What::PublishDespiteDead { clients }),
        PublishOptions { rollback: true, .. } => Some(What::Rollback { clients }),
        PublishOptions { resume: true, .. } => Some(What::Resume),
        _ => None,
    };
    if let Some(what) = &what {
        check(&target, what).await?;
        order(&target, what.clone()).await?;
        if !target.is_deployed {
            target.settle().await?;
        }
    }
    let (manifest, _) = manifest::load(&*target.pipeline.store).await?;
    let answer = look(&target, &manifest, what.is_some() && target.is_deployed).await?;
    if options.json {
        output::json(&answer)?;
    } else {
        describe(&answer, &target);
    }
    Ok(if answer.is_behind() { Exit::Attention } else { Exit::Done })
}

/// Refuses what there is nothing to be done about.
async fn check(target: &Target, what: &What) -> anyhow::Result<()> {
    let (manifest, _) = manifest::load(&*target.pipeline.store).await?;
    let publication = &manifest.publication;
    match what {
        What::Rollback { clients } => {
            if publication.previous.is_empty() {
                return Err(Usage("nothing was published before what is published now".to_owned()).into());
            }
            let had = |client: &BottleTag| publication.previous.contains_key(&Scope::Client(client.clone()));
            if let Some(client) = clients.iter().find(|client| !had(client)) {
                return Err(Usage(format!("nothing was published for {client} before")).into());
            }
        }
        What::PublishDespiteDead { clients } => {
            if publication.staged.is_empty() {
                return Err(Usage("no API files wait to be published".to_owned()).into());
            }
            let waiting = settle::waiting(&*target.pipeline.store, &manifest).await?;
            let waits = |client: &BottleTag| {
                let own = Scope::Client(client.clone());
                let awaits = |set: &Staged| set.scopes.contains(&own) && publication.awaits(&own, &set.run);
                // One without a file of its own may hold back the one of all.
                publication.staged.iter().any(awaits) || waiting.iter().any(|one| one.client == *client)
            };
            if let Some(client) = clients.iter().find(|client| !waits(client)) {
                return Err(Usage(format!("{client} waits for nothing")).into());
            }
        }
        _ => {}
    }
    Ok(())
}

/// Asks something of the producer, who alone writes what clients read.
pub(crate) async fn order(target: &Target, what: What) -> anyhow::Result<()> {
    let now = target.pipeline.clock.now();
    let receipt = Receipt { orders: vec![Order { at: now, what }], ..Receipt::default() };
    Ok(receipt.save(&*target.pipeline.store, now).await?)
}

pub(crate) async fn look(target: &Target, manifest: &Manifest, asked: bool) -> anyhow::Result<Answer> {
    let publication = &manifest.publication;
    Ok(Answer {
        published: publication.published.clone(),
        previous: publication.previous.clone(),
        waiting: settle::waiting(&*target.pipeline.store, manifest).await?,
        held_since: publication.held_since,
        asked,
    })
}

fn describe(answer: &Answer, target: &Target) {
    if answer.asked {
        line("Asked        the system does it with its next settle, within minutes");
    }
    if answer.published.is_empty() {
        line("Published    nothing yet");
    }
    for (scope, published) in &answer.published {
        let before = match answer.previous.get(scope) {
            Some(previous) => format!("; before: {}", previous.run),
            None => String::new(),
        };
        let scope = scope.to_string();
        line(format_args!("Published    {scope:<16} {} since {:.0}{before}", published.run, published.at));
    }
    summary(answer, &target.named);
}

/// What waits, and why, in a line each.
pub(crate) fn summary(answer: &Answer, named: &str) {
    for waiting in &answer.waiting {
        line(format_args!("Waiting      {:<16} {}", waiting.client.to_string(), waiting.describe()));
    }
    if let Some(since) = answer.held_since {
        describe_held(since, named);
    } else if answer.waiting.iter().any(|waiting| waiting.dead + waiting.unplanned > 0) {
        line(format_args!("             all the same: bottles publish {named} --despite-dead"));
    }
}

/// Whose API files were published.
pub(crate) fn describe_published(report: &PublishReport) {
    let clients: Vec<String> = report.published.iter().filter_map(client).collect();
    if !clients.is_empty() {
        line(format_args!("Published    API files for {}", clients.join(", ")));
    }
}

/// Whose API files were not published, and why.
pub(crate) fn describe_waiting(report: &PublishReport) {
    for waiting in &report.waiting {
        line(format_args!("Not published for {}: {}", waiting.client, waiting.describe()));
    }
}

/// That a rollback holds publishing back, in words.
pub(crate) fn describe_held(since: Timestamp, named: &str) {
    line(format_args!(
        "Held back    since {since:.0} by a rollback; `bottles publish {named} --resume` goes on"
    ));
}

fn client(scope: &Scope) -> Option<String> {
    match scope {
        Scope::Client(tag) => Some(tag.to_string()),
        Scope::AllClients | Scope::NoBottles => None,
    }
}

impl Answer {
    /// Whether clients don't read the newest that there is.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || self.held_since.is_some()
    }

    /// Whether clients read no newer files until somebody acts, or plans again. Letters
    /// tell of bottles that were given up on, and are gone from the queue once they are
    /// sent back.
    pub(crate) fn is_stuck(&self) -> bool {
        self.held_since.is_some() || self.waiting.iter().any(|one| one.unplanned > 0)
    }

    /// Whether somebody waits for the next settle alone.
    pub(crate) fn is_due(&self) -> bool {
        let is_complete = |one: &Waiting| one.queued + one.dead + one.unplanned + one.unnamed == 0;
        self.held_since.is_none() && self.waiting.iter().any(is_complete)
    }

    /// The clients that read something.
    pub(crate) fn clients(&self) -> impl Iterator<Item = String> {
        self.published.keys().filter_map(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_due_that_wait_for_neither_a_bottle_nor_an_operator() {
        let answer = |dead: u64, held_since: Option<Timestamp>| {
            let waiting =
                format!(r#"{{"client":"x86_64_linux","queued":0,"dead":{dead},"unplanned":0,"unnamed":0}}"#);
            Answer {
                published: BTreeMap::new(),
                previous: BTreeMap::new(),
                waiting: vec![serde_json::from_str(&waiting).unwrap()],
                held_since,
                asked: false,
            }
        };
        assert!(answer(0, None).is_due());
        assert!(!answer(1, None).is_due());
        assert!(!answer(0, Some(Timestamp::UNIX_EPOCH)).is_due());
    }
}
