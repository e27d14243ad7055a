//! What the team is told.

use jiff::Timestamp;
use serde_json::Value;

use crate::clock;
use crate::publication::Scope;
use crate::run::{Count, Outcome, RunId, RunRecord};

use super::outline::Outline;
use super::text::{bottles, counted, cut, duration, lines, moment, one_line};
use super::{Alarm, AlarmState, Mail, blocks, mail};

/// Other people's text is cut to this many characters: the log has all of it.
const LONGEST_QUOTE: usize = 1000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A run queued work.
    RunStarted {
        /// The run.
        run: RunId,
        /// What went to the small queue.
        small: Count,
        /// What went to the large queue.
        large: Count,
    },
    /// All of a run's bottles are accounted for.
    RunSettled {
        /// What was planned, and the outcome.
        record: RunRecord,
    },
    /// A run that has work left makes no progress.
    RunStalled {
        /// The run.
        run: RunId,
        /// Bottles that are not accounted for.
        remaining: u64,
        /// When there was progress last.
        since: Timestamp,
    },
    /// The producer gave up on what it was to do.
    ProducerFailed {
        /// What it was to do: `plan` or `settle`.
        action: &'static str,
        /// Why it gave up; no secrets, any length.
        error: String,
    },
    /// A CloudWatch alarm changed its state.
    Alarm(Alarm),
    /// Somebody else sent something to the topic: AWS Budgets, a person.
    Other {
        /// Its subject, where it has one.
        subject: Option<String>,
        /// What it says, any length.
        text: String,
    },
}

impl Notice {
    /// What kind of notice it is, as one word for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run-started",
            Self::RunSettled { .. } => "run-settled",
            Self::RunStalled { .. } => "run-stalled",
            Self::ProducerFailed { .. } => "producer-failed",
            Self::Alarm(_) => "alarm",
            Self::Other { .. } => "other",
        }
    }

    /// The payload of a Slack message, in Block Kit.
    pub fn blocks(&self, environment: &str) -> Value {
        blocks::lay_out(&self.outline(environment), environment)
    }

    /// The e-mail.
    pub fn mail(&self, environment: &str) -> Mail {
        mail::lay_out(&self.outline(environment), environment)
    }

    fn outline(&self, environment: &str) -> Outline {
        let status = || Some(format!("bottles status --stack {environment}"));
        let mut outline = match self {
            Self::RunStarted { run, small, large } => Outline {
                title: format!("Run started: {} queued", counted(small.bottles + large.bottles, "bottle")),
                lead: String::new(),
                facts: vec![
                    ("Run", run.to_string()),
                    ("Small queue", bottles(*small)),
                    ("Large queue", bottles(*large)),
                ],
                quote: None,
                command: None,
            },
            Self::RunSettled { record } => settled(record, environment),
            Self::RunStalled { run, remaining, since } => Outline {
                title: format!("Run stalled with {} left", counted(*remaining, "bottle")),
                lead: String::new(),
                facts: vec![("Run", run.to_string()), ("No progress since", moment(*since))],
                quote: None,
                command: status(),
            },
            Self::ProducerFailed { action, error } => Outline {
                title: format!("The producer failed to {action}"),
                lead: String::new(),
                facts: Vec::new(),
                quote: Some(("Error", error.clone())),
                command: status(),
            },
            Self::Alarm(alarm) => alarmed(alarm, status()),
            Self::Other { subject, text } => Outline {
                title: subject.clone().unwrap_or_else(|| "Sent to the topic".to_owned()),
                lead: String::new(),
                facts: Vec::new(),
                quote: Some(("Message", text.clone())),
                command: None,
            },
        };
        outline.title = one_line(&outline.title);
        outline.lead = cut(&lines(&outline.lead), LONGEST_QUOTE);
        if let Some((_, text)) = &mut outline.quote {
            *text = cut(&lines(text), LONGEST_QUOTE);
        }
        outline.facts.insert(0, ("Environment", environment.to_owned()));
        outline.facts.retain(|(_, value)| !value.trim().is_empty());
        outline.quote = outline.quote.filter(|(_, text)| !text.is_empty());
        outline
    }
}

fn settled(record: &RunRecord, environment: &str) -> Outline {
    let mut facts = vec![("Run", record.id.to_string())];
    let mut troubles = Vec::new();
    let mut command = None;
    if let Some(Outcome { settled_at, held, dead, reasons, lost, publication }) = &record.outcome {
        facts.push(("Held", bottles(*held)));
        facts.push(("Duration", duration(clock::since(record.started_at, *settled_at))));
        if *dead > 0 {
            let reasons = reasons.iter().map(|(reason, number)| format!("{number} {reason}"));
            facts.push(("Dead letters", reasons.collect::<Vec<_>>().join("\n")));
            troubles.push(counted(*dead, "dead letter"));
            command = Some(format!("bottles dead-letters list --stack {environment}"));
        }
        if *lost > 0 {
            facts.push(("Lost, to be planned again", counted(*lost, "bottle")));
            troubles.push(counted(*lost, "lost bottle"));
        }
        let published = publication.published.iter().filter_map(|scope| match scope {
            Scope::Client(tag) => Some(tag.to_string()),
            Scope::AllClients | Scope::NoBottles => None,
        });
        facts.push(("Published for", published.collect::<Vec<_>>().join(", ")));
        if !publication.waiting.is_empty() {
            let waiting = publication.waiting.iter().map(|one| format!("{}: {}", one.client, one.describe()));
            facts.push(("Not published for", waiting.collect::<Vec<_>>().join("\n")));
            let clients = publication.waiting.len() as u64;
            troubles.push(format!("{} held back", counted(clients, "client")));
        }
    }
    if record.problems > 0 {
        facts.push(("Not planned", format!("{} that can't be read or planned", formulae(record.problems))));
    }
    if !record.unread_taps.is_empty() {
        facts.push(("Taps not read", record.unread_taps.join(", ")));
        troubles.push("taps that can't be read".to_owned());
    }
    let mut title = "Run settled".to_owned();
    if !troubles.is_empty() {
        title = format!("{title} with {}", troubles.join(" and "));
    }
    Outline { title, lead: String::new(), facts, quote: None, command }
}

fn formulae(count: u64) -> String {
    if count == 1 { "1 formula".to_owned() } else { format!("{count} formulae") }
}

fn alarmed(alarm: &Alarm, status: Option<String>) -> Outline {
    let title = match alarm.state {
        AlarmState::Alarm => "Alarm",
        AlarmState::Ok => "Recovered",
        AlarmState::InsufficientData => "No data",
    };
    let state = match alarm.previous {
        Some(previous) => format!("{}, was {previous}", alarm.state),
        None => alarm.state.to_string(),
    };
    let dimensions = alarm.dimensions.iter().map(|(name, value)| format!("{name} {value}"));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let description = text(&alarm.description);
    // Most descriptions name the command that fits their alarm better.
    let command = status.filter(|_| alarm.state == AlarmState::Alarm && !description.contains("--stack"));
    Outline {
        title: format!("{title}: {}", alarm.name),
        lead: description,
        facts: vec![
            ("State", state),
            ("Since", alarm.at.map(moment).unwrap_or_default()),
            ("Metric", text(&alarm.metric)),
            ("Of", dimensions.collect::<Vec<_>>().join("\n")),
            ("Region", text(&alarm.region)),
        ],
        quote: alarm.reason.clone().map(|reason| ("Reason", reason)),
        command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::Reason;
    use crate::publication::{PublishReport, Waiting};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn run() -> RunId {
        "20261123T101500123Z-3fa8".parse().unwrap()
    }

    fn record(dead: &[(Reason, u64)], lost: u64) -> RunRecord {
        let mut record = RunRecord::begin(run(), at("2026-11-23T10:15:00Z"));
        record.outcome = Some(Outcome {
            settled_at: at("2026-11-23T10:19:10Z"),
            held: Count { bottles: 41, bytes: 1_234_567_890 },
            dead: dead.iter().map(|(_, number)| number).sum(),
            reasons: dead.iter().copied().collect(),
            lost,
            publication: PublishReport::default(),
        });
        record
    }

    fn rendered(notice: &Notice) -> (String, Mail) {
        (notice.blocks("prod").to_string(), notice.mail("prod"))
    }

    /// Both renderings hold these, and name the environment.
    fn assert_told(notice: &Notice, parts: &[&str]) {
        let (slack, mail) = rendered(notice);
        for part in parts.iter().chain(&["prod"]) {
            assert!(slack.contains(part), "{part:?} is not in {slack}");
            assert!(mail.body.contains(part), "{part:?} is not in {}", mail.body);
        }
        assert!(mail.subject.starts_with("[bottles prod] "), "{}", mail.subject);
    }

    #[test]
    fn a_started_run_says_what_it_queued() {
        let small = Count { bottles: 12, bytes: 34_000_000 };
        let large = Count { bottles: 1, bytes: 5_600_000_000 };
        let notice = Notice::RunStarted { run: run(), small, large };
        let parts =
            ["Run started: 13 bottles queued", run().as_str(), "12 bottles, 34.0 MB", "1 bottle, 5.6 GB"]
                .map(str::to_owned);
        assert_told(&notice, &parts.each_ref().map(String::as_str));
        assert!(!rendered(&notice).0.contains("bottles status"), "nobody has to do anything");
    }

    #[test]
    fn a_clean_run_says_what_it_brought_and_asks_for_nothing() {
        let notice = Notice::RunSettled { record: record(&[], 0) };
        assert_told(&notice, &["41 bottles, 1.2 GB", "4 min 10 s"]);
        let (slack, mail) = rendered(&notice);
        assert_eq!(mail.subject, "[bottles prod] Run settled");
        for part in ["dead", "Lost", "--stack", "Not planned"] {
            assert!(!slack.contains(part) && !mail.body.contains(part), "{part:?} is told of a clean run");
        }
    }

    #[test]
    fn dead_letters_are_told_by_reason_with_the_command() {
        let mut record = record(&[(Reason::NotFound, 2), (Reason::WrongDigest, 1)], 0);
        record.problems = 1;
        let notice = Notice::RunSettled { record };
        let command = "bottles dead-letters list --stack prod";
        assert_told(&notice, &["Run settled with 3 dead letters", "2 not-found", "1 wrong-digest", command]);
        assert_told(&notice, &["1 formula that"]);
        assert_eq!(rendered(&notice).1.subject, "[bottles prod] Run settled with 3 dead letters");
    }

    #[test]
    fn clients_whose_files_wait_are_told_with_what_they_wait_for() {
        let mut record = record(&[(Reason::NotFound, 2)], 0);
        let client = |tag: &str| tag.parse().unwrap();
        if let Some(outcome) = &mut record.outcome {
            outcome.publication = PublishReport {
                published: vec![Scope::Client(client("arm64_tahoe")), Scope::NoBottles],
                waiting: vec![Waiting {
                    client: client("x86_64_linux"),
                    queued: 0,
                    dead: 2,
                    unplanned: 0,
                    unnamed: 0,
                }],
            };
        }
        let notice = Notice::RunSettled { record };
        assert_told(&notice, &["arm64_tahoe", "x86_64_linux: 2 given up on", "1 client held back"]);
    }

    #[test]
    fn what_others_send_is_quoted_whole_and_within_bounds() {
        let subject = "AWS Budgets: team has exceeded your alert threshold".to_owned();
        let text = "Actual cost: $80.01\nBudget: $100".to_owned();
        let notice = Notice::Other { subject: Some(subject.clone()), text };
        assert_told(&notice, &[&subject, "Actual cost: $80.01", "Budget: $100"]);
        let notice = Notice::Other { subject: None, text: "x".repeat(50_000) };
        assert_told(&notice, &["Sent to the topic", "xxx"]);
        assert!(rendered(&notice).0.len() < 5_000, "all of it was told");
    }

    #[test]
    fn lost_bottles_are_told_beside_the_dead() {
        let notice = Notice::RunSettled { record: record(&[(Reason::Crashed, 1)], 2) };
        assert_told(&notice, &["Run settled with 1 dead letter and 2 lost bottles"]);
        let notice = Notice::RunSettled { record: record(&[], 1) };
        assert_told(&notice, &["Run settled with 1 lost bottle", "planned again"]);
        assert!(!rendered(&notice).0.contains("--stack"), "lost bottles are planned again by themselves");
    }

    #[test]
    fn a_stall_and_a_failure_name_the_command() {
        let command = "bottles status --stack prod";
        let since = at("2026-11-23T09:00:00Z");
        let notice = Notice::RunStalled { run: run(), remaining: 7, since };
        assert_told(&notice, &["Run stalled with 7 bottles left", "2026-11-23 09:00:00 UTC", command]);
        let error = "upstream answers HTTP 503 for the catalogue".to_owned();
        let notice = Notice::ProducerFailed { action: "plan", error: error.clone() };
        assert_told(&notice, &["The producer failed to plan", &error, command]);
    }

    #[test]
    fn an_endless_error_is_cut() {
        let notice = Notice::ProducerFailed { action: "plan", error: "ö".repeat(100_000) };
        let (slack, mail) = rendered(&notice);
        assert!(slack.chars().count() < 3000 && mail.body.chars().count() < 3000);
        assert!(mail.body.contains("öö…"), "{}", mail.body);
    }

    #[test]
    fn an_alarm_says_its_state_and_the_command() {
        let alarm = Alarm::parse(&super::super::alarm::sample("ALARM", "OK")).unwrap();
        let description = alarm.description.clone().unwrap();
        let notice = Notice::Alarm(alarm.clone());
        assert_told(&notice, &["Alarm: bottles-prod-small-dlq", "ALARM, was OK", "2026-11-23 10:20:11 UTC"]);
        assert_told(&notice, &["ApproximateNumberOfMessagesVisible", "QueueName bottles-prod-small-dlq"]);
        assert_told(&notice, &["EU (Ireland)", "Threshold Crossed", &description]);
        assert!(!rendered(&notice).0.contains("bottles status"), "its description names a better command");

        let silent = Notice::Alarm(Alarm { description: None, ..alarm.clone() });
        assert_told(&silent, &["bottles status --stack prod"]);

        let recovered = Notice::Alarm(Alarm { state: AlarmState::Ok, description: None, ..alarm.clone() });
        assert_told(&recovered, &["Recovered: bottles-prod-small-dlq"]);
        assert!(!rendered(&recovered).0.contains("--stack"), "nobody has to do anything");
        let unknown = Notice::Alarm(Alarm { state: AlarmState::InsufficientData, ..alarm });
        assert_told(&unknown, &["No data: bottles-prod-small-dlq"]);
    }
}
