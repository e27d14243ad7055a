//! All settings of the services, from one environment.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::clock::Grace;
use crate::message::Lane;
use crate::mirror::PART_SIZE;
use crate::registry::{AllowedHost, Rewrite, Routes, UpstreamSettings};
use crate::size::ByteSize;
use crate::store::Location;
use crate::telemetry::LogFormat;

use super::environment::invalid;
use super::{ConfigError, Environment, Variable};

/// What a service is told. Each of them reads all of it, so that a value that
/// can't be used is refused by all.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The deployment's name.
    pub environment: String,
    to: Option<Location>,
    /// The endpoint of another store than S3.
    pub s3_endpoint: Option<String>,
    /// A selection, or where one is.
    pub selection: Option<String>,
    /// The folder of upstream's API files.
    pub api_url: Url,
    /// Where requests go instead.
    pub rewrite: Vec<Rewrite>,
    /// Further hosts.
    pub allow_host: Vec<AllowedHost>,
    /// The limit on requests to upstream.
    pub requests_per_second: u32,
    /// Larger bottles, in bytes, go to the large queue.
    pub size_threshold: u64,
    /// Small bottles on their way at once.
    pub concurrency: usize,
    /// Bytes of bottles in memory at once, where it was set.
    pub memory: Option<u64>,
    /// How often a message is received.
    pub most_receives: u32,
    /// How long a received message stays hidden.
    pub visibility: Duration,
    /// How long transfers may go on after SIGTERM.
    pub stop_timeout: Duration,
    /// What is touched while the worker is well.
    pub health_file: Option<PathBuf>,
    /// When a bottle has lost its message.
    pub lost_after: Duration,
    /// When a run is stalled.
    pub stalled_after: Duration,
    /// When what is superseded expires.
    pub expire_after: Duration,
    /// The service that large bottles go to, if it is to be scaled.
    pub ecs: Option<EcsSettings>,
    /// The name of the secret with Slack's webhook.
    pub slack_secret: Option<String>,
    /// The topic of notifications.
    pub sns_topic: Option<String>,
    /// What is logged.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    small: [Option<String>; 2],
    large: [Option<String>; 2],
}

/// The queues of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueUrls {
    /// The work queue.
    pub work: String,
    /// Its dead-letter queue.
    pub dead_letters: String,
}

/// The service of large bottles, and how far a plan may raise it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsSettings {
    /// The cluster's name or ARN.
    pub cluster: String,
    /// The service's name or ARN.
    pub service: String,
    /// Never more tasks than this.
    pub most_tasks: u32,
    /// One task for so many bottles.
    pub bottles_per_task: u32,
}

/// The smallest budget: one part that is written while the next one comes.
pub(crate) const LEAST_MEMORY: u64 = 2 * PART_SIZE;

impl Settings {
    /// Reads them all; the error names the variable.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let memory: Option<ByteSize> = environment.optional(&super::MEMORY)?;
        if let Some(memory) = memory
            && memory.0 < LEAST_MEMORY
        {
            return Err(invalid(&super::MEMORY, &memory.to_string(), "at least 16MiB are needed"));
        }
        let api_url: Url = environment.required(&super::API_URL)?;
        if !matches!(api_url.scheme(), "http" | "https") {
            return Err(invalid(&super::API_URL, api_url.as_str(), "it takes an http or https URL"));
        }
        if let Some(value) = environment.get(&super::SLACK_SECRET)
            && value.contains("://")
        {
            // Not shown: it may be the secret.
            return Err(invalid(&super::SLACK_SECRET, "…", "it takes the secret's name, not the URL"));
        }
        let concurrency: u16 = environment.positive(&super::CONCURRENCY)?;
        Ok(Self {
            environment: name(environment)?,
            to: environment.optional(&super::TO)?,
            s3_endpoint: url(environment, &super::S3_ENDPOINT)?,
            selection: environment.get(&super::SELECTION).map(str::to_owned),
            api_url,
            rewrite: environment.list(&super::REWRITE)?,
            allow_host: environment.list(&super::ALLOW_HOST)?,
            requests_per_second: environment.positive(&super::REQUESTS_PER_SECOND)?,
            size_threshold: environment.required::<ByteSize>(&super::SIZE_THRESHOLD)?.0,
            concurrency: usize::from(concurrency.min(1024)),
            memory: memory.map(|memory| memory.0),
            most_receives: environment.positive(&super::MOST_RECEIVES)?,
            visibility: at_least(environment, &super::VISIBILITY, Duration::from_secs(3))?,
            stop_timeout: environment.duration(&super::STOP_TIMEOUT)?,
            health_file: environment.get(&super::HEALTH_FILE).map(PathBuf::from),
            lost_after: at_least(environment, &super::LOST_AFTER, Duration::from_secs(1))?,
            stalled_after: at_least(environment, &super::STALLED_AFTER, Duration::from_secs(1))?,
            expire_after: environment.required::<Grace>(&super::EXPIRE_AFTER)?.0,
            ecs: ecs(environment)?,
            slack_secret: environment.get(&super::SLACK_SECRET).map(str::to_owned),
            sns_topic: environment.get(&super::SNS_TOPIC).map(str::to_owned),
            log: environment.get(&super::LOG).unwrap_or("info").to_owned(),
            log_format: environment.optional(&super::LOG_FORMAT)?.unwrap_or(LogFormat::Json),
            small: [url(environment, &super::SMALL_QUEUE)?, url(environment, &super::SMALL_DEAD_LETTERS)?],
            large: [url(environment, &super::LARGE_QUEUE)?, url(environment, &super::LARGE_DEAD_LETTERS)?],
        })
    }

    /// Where the mirror is.
    pub fn to(&self) -> Result<&Location, ConfigError> {
        need(self.to.as_ref(), &super::TO)
    }

    /// One lane's queues.
    pub fn queues(&self, lane: Lane) -> Result<QueueUrls, ConfigError> {
        match lane {
            Lane::Small => urls(&self.small, &super::SMALL_QUEUE, &super::SMALL_DEAD_LETTERS),
            Lane::Large => urls(&self.large, &super::LARGE_QUEUE, &super::LARGE_DEAD_LETTERS),
        }
    }

    /// How upstream is reached, and the taps' catalogues that a selection names.
    pub fn upstream<'a>(&self, catalogues: impl IntoIterator<Item = &'a Url>) -> UpstreamSettings {
        // The API's own host is named by the variable, and so allowed.
        let mut routes = Routes::new(&self.rewrite, &self.allow_host).with_origin_of(&self.api_url);
        for url in catalogues {
            routes = routes.with_catalogue(url);
        }
        UpstreamSettings { requests_per_second: self.requests_per_second, ..UpstreamSettings::new(routes) }
    }
}

fn urls(pair: &[Option<String>; 2], work: &Variable, dead: &Variable) -> Result<QueueUrls, ConfigError> {
    let [queue, letters] = pair;
    let urls = QueueUrls {
        work: need(queue.as_ref(), work)?.clone(),
        dead_letters: need(letters.as_ref(), dead)?.clone(),
    };
    if urls.work == urls.dead_letters {
        return Err(invalid(dead, &urls.dead_letters, format!("it is the queue of {} itself", work.name)));
    }
    Ok(urls)
}

fn need<'a, T>(value: Option<&'a T>, variable: &Variable) -> Result<&'a T, ConfigError> {
    value.ok_or(ConfigError::Missing { name: variable.name, doc: variable.doc })
}

fn name(environment: &Environment) -> Result<String, ConfigError> {
    let name: String = environment.required(&super::ENVIRONMENT)?;
    let fits = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fits {
        Ok(name)
    } else {
        Err(invalid(&super::ENVIRONMENT, &name, "it takes up to 64 letters, digits and -"))
    }
}

fn url(environment: &Environment, variable: &Variable) -> Result<Option<String>, ConfigError> {
    let Some(text) = environment.get(variable) else { return Ok(None) };
    let parsed = Url::parse(text).map_err(|error| invalid(variable, text, error))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(invalid(variable, text, "it takes an http or https URL"));
    }
    Ok(Some(text.to_owned()))
}

fn at_least(
    environment: &Environment,
    variable: &Variable,
    least: Duration,
) -> Result<Duration, ConfigError> {
    let duration = environment.duration(variable)?;
    if duration < least {
        return Err(invalid(variable, &format!("{duration:?}"), format!("it is at least {least:?}")));
    }
    Ok(duration)
}

fn ecs(environment: &Environment) -> Result<Option<EcsSettings>, ConfigError> {
    let (cluster, service) = (environment.get(&super::ECS_CLUSTER), environment.get(&super::ECS_SERVICE));
    let halved = |set: &Variable, other: &Variable| ConfigError::Halved { name: set.name, other: other.name };
    match (cluster, service) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(halved(&super::ECS_CLUSTER, &super::ECS_SERVICE)),
        (None, Some(_)) => Err(halved(&super::ECS_SERVICE, &super::ECS_CLUSTER)),
        (Some(cluster), Some(service)) => Ok(Some(EcsSettings {
            cluster: cluster.to_owned(),
            service: service.to_owned(),
            most_tasks: environment.positive(&super::MOST_TASKS)?,
            bottles_per_task: environment.positive(&super::BOTTLES_PER_TASK)?,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let to = [("BOTTLES_TO", "s3://team-bottles")];
        let pairs = to.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(&Environment::new(pairs)?)
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.size_threshold, 500_000_000);
        assert_eq!((settings.concurrency, settings.most_receives), (16, 5));
        assert_eq!(settings.visibility, Duration::from_mins(2));
        assert_eq!(settings.stalled_after, Duration::from_hours(2));
        assert!(settings.ecs.is_none() && settings.memory.is_none());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let named = |pairs: &[(&str, &str)], name: &str| {
            let error = read(pairs).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        };
        let error = read(&[("BOTTLES_TO", "")]).unwrap().to().unwrap_err().to_string();
        assert!(error.starts_with("BOTTLES_TO must be set"), "{error}");
        named(&[("BOTTLES_TO", "/a/folder")], "BOTTLES_TO=/a/folder");
        named(&[("BOTTLES_MEMORY", "1MB")], "BOTTLES_MEMORY=");
        named(&[("BOTTLES_VISIBILITY", "soon")], "BOTTLES_VISIBILITY=soon");
        named(&[("BOTTLES_CONCURRENCY", "0")], "BOTTLES_CONCURRENCY=0");
        named(&[("BOTTLES_SMALL_QUEUE", "small")], "BOTTLES_SMALL_QUEUE=small");
        named(&[("BOTTLES_ECS_CLUSTER", "c")], "BOTTLES_ECS_CLUSTER and BOTTLES_ECS_SERVICE go together");
        named(&[("BOTTLES_ENVIRONMENT", "a b")], "BOTTLES_ENVIRONMENT=a b");
        named(&[("BOTTLES_LOG_FORMAT", "xml")], "BOTTLES_LOG_FORMAT=xml");
        named(&[("BOTTLES_CONCURENCY", "1")], "BOTTLES_CONCURENCY is no variable");
        let queue = ("BOTTLES_SMALL_QUEUE", "http://localhost/q");
        let error = read(&[queue]).unwrap().queues(Lane::Small).unwrap_err().to_string();
        assert!(error.starts_with("BOTTLES_SMALL_DEAD_LETTERS must be set"), "{error}");
        let same =
            read(&[queue, ("BOTTLES_SMALL_DEAD_LETTERS", "http://localhost/q")]).unwrap().queues(Lane::Small);
        assert!(same.unwrap_err().to_string().contains("the queue of BOTTLES_SMALL_QUEUE itself"));
    }

    #[test]
    fn a_webhook_that_is_passed_as_a_name_is_refused_and_not_shown() {
        let error =
            read(&[("BOTTLES_SLACK_SECRET", "https://hooks.example.com/services/T0/B0/secret")]).unwrap_err();
        assert!(error.to_string().contains("the secret's name"), "{error}");
        assert!(!error.to_string().contains("T0"), "{error}");
    }
}
