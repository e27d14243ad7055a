//! The function that plans and settles, deployed twice from one package, and a
//! third time to pass alarms on.
//!
//! What it does is in the event: see [`common::invocation`]. A failure is an
//! error, so that Lambda's own alarms and retries see it.

mod selection;

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::event::sns::{SnsEvent, SnsMessage};
use common::aws::SdkConfig;
use common::config::Settings;
use common::ecs::{self, EcsError, EcsService, Raised};
use common::invocation::{Event, PlanAnswer, PlanRequest};
use common::message::Lane;
use common::metrics::Metrics;
use common::notify::{Alarm, AlarmState, Notice, Notifier, SOURCE, Slack, SlackError, Topic};
use common::pipeline::Pipeline;
use common::plan::{Mode, PlanError, PlanReport, PlanSettings};
use common::run::{self, RunRecord};
use common::service::{self, ServiceError};
use common::settle::{SettleError, SettleReport, SettleSettings};
use common::store::StoreError;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

pub use selection::SelectionSourceError;

/// The producer, kept from one invocation to the next.
pub struct Producer {
    settings: Settings,
    config: SdkConfig,
    notifier: Notifier,
    metrics: Metrics,
}

/// An invocation that failed.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The event is none of ours.
    #[error(
        "the event can't be read: {0}; it is {{\"action\":\"plan\"}}, {{\"action\":\"settle\"}} or an alarm from SNS"
    )]
    Event(serde_json::Error),
    /// A variable is missing, or can't be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The selection can't be used.
    #[error(transparent)]
    Selection(#[from] SelectionSourceError),
    /// No plan could be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The time did not suffice. What was planned is queued.
    #[error(
        "the time did not suffice for the whole catalogue: {0} bottles are queued, and the next plan goes on from there"
    )]
    Incomplete(u64),
    /// Planned and queued, but nobody was called to work on it.
    #[error("the plan is made, but {0}")]
    Scale(#[from] ScaleError),
    /// No settle could be made.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An alarm could not be passed on.
    #[error("an alarm can't be passed on: {0}")]
    Alarm(SlackError),
    /// The answer can't be written.
    #[error("the answer can't be written: {0}")]
    Answer(serde_json::Error),
}

/// The service of large bottles could not be scaled.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// The service failed.
    #[error(transparent)]
    Ecs(#[from] EcsError),
    /// The queue's length is not known.
    #[error(transparent)]
    Queue(#[from] common::queue::QueueError),
}

/// Before the function's time is up a plan stops between two formulae, and has
/// this long to write down what it has: but no more than a quarter of its time.
const KEPT_FOR_WRITING: Duration = Duration::from_mins(1);

impl Producer {
    /// A producer with these settings.
    pub fn new(settings: Settings, config: SdkConfig, metrics: Metrics) -> Result<Self, SlackError> {
        let slack = settings
            .slack_secret
            .clone()
            .map(|name| Slack::new(aws_sdk_secretsmanager::Client::new(&config), name))
            .transpose()?;
        let topic = settings.sns_topic.clone().map(|arn| Topic::new(aws_sdk_sns::Client::new(&config), arn));
        let notifier = Notifier { environment: settings.environment.clone(), slack, topic };
        Ok(Self { settings, config, notifier, metrics })
    }

    /// Does what the event says; the answer to whoever sent it.
    pub async fn handle(&self, event: Value, deadline: Instant) -> Result<Value, ProducerError> {
        if event.get("Records").is_some() {
            let event: SnsEvent = serde_json::from_value(event).map_err(ProducerError::Event)?;
            return self.pass_on(event).await.map(|()| Value::Null);
        }
        let answer = match serde_json::from_value(event).map_err(ProducerError::Event)? {
            Event::Plan(request) => {
                let is_dry = request.dry_run;
                let outcome = self.plan(*request, deadline).await;
                // One that will be gone on with by the next try is no news yet.
                if let Err(error) = &outcome
                    && !is_dry
                    && !matches!(error, ProducerError::Incomplete(_))
                {
                    let notice = Notice::ProducerFailed { action: "plan", error: error.to_string() };
                    self.notifier.tell(&notice).await;
                }
                serde_json::to_value(outcome?)
            }
            Event::Settle(_) => serde_json::to_value(self.settle().await?),
        };
        answer.map_err(ProducerError::Answer)
    }

    /// Plans, and sees to it that someone works on it.
    async fn plan(&self, request: PlanRequest, deadline: Instant) -> Result<PlanAnswer, ProducerError> {
        let started = Instant::now();
        let pipeline = self.pipeline()?;
        let is_partial = request.selection.is_some();
        let selection = match request.selection {
            Some(file) => selection::given(file)?,
            None => selection::configured(&self.settings, &self.config).await?,
        };
        let catalogues = selection.catalogues();
        let upstream = service::upstream(&self.settings, &catalogues).map_err(ServiceError::from)?;
        let left = deadline.saturating_duration_since(started);
        let planner = pipeline.planner(
            Arc::clone(&upstream),
            selection,
            PlanSettings {
                api_url: self.settings.api_url.clone(),
                size_threshold: self.settings.size_threshold,
                concurrency: self.settings.concurrency,
                deadline: Some(started + left.saturating_sub(KEPT_FOR_WRITING.min(left / 4))),
                is_partial,
            },
        );
        let mode = if request.dry_run { Mode::DryRun { sizes: !request.no_sizes } } else { Mode::Queue };
        let report = planner.plan(mode).await?;
        if request.dry_run {
            return Ok(PlanAnswer::new(report, self.settings.size_threshold, None));
        }
        let now = pipeline.clock.now();
        self.metrics.planned(&report, started.elapsed(), now);
        self.metrics.upstream(&upstream.counts(), now);
        log(&report);
        self.tell_of_start(&pipeline, &report).await?;
        // Last: what fails here is tried again by the retry of the whole, which
        // finds nothing else to do.
        let tasks = self.raise(&pipeline, &report).await?;
        if request.whole && !report.complete {
            return Err(ProducerError::Incomplete(report.total().bottles));
        }
        Ok(PlanAnswer::new(report, self.settings.size_threshold, tasks))
    }

    async fn tell_of_start(&self, pipeline: &Pipeline, report: &PlanReport) -> Result<(), StoreError> {
        let Some(run) = &report.run else { return Ok(()) };
        if !report.complete || report.total().bottles == 0 {
            return Ok(());
        }
        // What earlier invocations planned of the same run counts too.
        if let Some(RunRecord { small, large, .. }) = RunRecord::load(&*pipeline.store, run).await? {
            self.notifier.tell(&Notice::RunStarted { run: run.clone(), small, large }).await;
        }
        Ok(())
    }

    /// Asks for as many tasks as the large queue is worth.
    async fn raise(&self, pipeline: &Pipeline, report: &PlanReport) -> Result<Option<Raised>, ScaleError> {
        let Some(settings) = &self.settings.ecs else { return Ok(None) };
        let Some(lane) = pipeline.lanes.iter().find(|lane| lane.lane == Lane::Large) else { return Ok(None) };
        // The queue tells its length only roughly, and late: what was sent just
        // now is known better.
        let waiting = lane.work.depth().await?.visible.max(report.large.bottles);
        if waiting == 0 {
            return Ok(None);
        }
        let wanted = ecs::wanted_tasks(waiting, settings.bottles_per_task, settings.most_tasks);
        let service = EcsService::new(&self.config, &settings.cluster, &settings.service);
        let raised = service.raise(wanted).await?;
        tracing::info!(
            waiting,
            tasks.before = raised.before,
            tasks.after = raised.after,
            "tasks for the large queue"
        );
        Ok(Some(raised))
    }

    /// Folds receipts, and tells of runs that ended or don't get on.
    async fn settle(&self) -> Result<SettleReport, ProducerError> {
        let pipeline = self.pipeline()?;
        let settings = SettleSettings {
            lost_after: self.settings.lost_after,
            stalled_after: self.settings.stalled_after,
            expire_after: self.settings.expire_after,
        };
        let report = pipeline.settler(settings).settle().await?;
        let mut notices = Vec::new();
        for record in &report.settled {
            tracing::info!(run.id = %record.id, "settled");
            notices.push(Notice::RunSettled { record: record.clone() });
        }
        for stalled in &report.stalled {
            tracing::warn!(run.id = %stalled.run, bottles = stalled.remaining, "no progress");
            if stalled.is_new {
                notices.push(Notice::RunStalled {
                    run: stalled.run.clone(),
                    remaining: stalled.remaining,
                    since: stalled.since,
                });
            }
        }
        // Together: a channel that doesn't answer is waited for once.
        join_all(notices.iter().map(|notice| self.notifier.tell(notice))).await;
        let last = run::last_settled(&*pipeline.store).await?;
        self.metrics.settled(&report, last, pipeline.clock.now());
        tracing::info!(
            receipts = report.receipts,
            indexes = report.indexes,
            remaining = report.remaining,
            "settled"
        );
        Ok(report)
    }

    /// Passes on to Slack what others sent to the topic: CloudWatch its alarms,
    /// Budgets its warnings. Its e-mail subscribers have them. Our own notices are
    /// marked, and Slack has had them.
    async fn pass_on(&self, event: SnsEvent) -> Result<(), ProducerError> {
        for SnsMessage { message, message_attributes, subject, message_id, .. } in
            event.records.into_iter().map(|record| record.sns)
        {
            if message_attributes.get("source").is_some_and(|source| source.value == SOURCE) {
                tracing::debug!(message.id = message_id, "one of our own");
                continue;
            }
            let notice = match Alarm::parse(&message) {
                // Every new alarm does this once; it is no recovery.
                Some(alarm)
                    if alarm.state == AlarmState::Ok
                        && alarm.previous == Some(AlarmState::InsufficientData) =>
                {
                    continue;
                }
                Some(alarm) => Notice::Alarm(alarm),
                None => Notice::Other { subject, text: message },
            };
            self.notifier.tell_slack(&notice).await.map_err(ProducerError::Alarm)?;
        }
        Ok(())
    }

    fn pipeline(&self) -> Result<Pipeline, ServiceError> {
        Ok(service::pipeline(&self.settings, &self.config, &Lane::ALL)?)
    }
}

fn log(report: &PlanReport) {
    let run = report.run.as_ref().map(ToString::to_string).unwrap_or_default();
    let total = report.total();
    tracing::info!(
        run.id = run,
        unchanged = report.unchanged,
        complete = report.complete,
        bottles = total.bottles,
        bottles.bytes = total.bytes,
        problems = report.problems.len(),
        taps.unread = report.unread_taps.len(),
        "planned"
    );
}
