//! The environment variables, each declared once.
//!
//! Every program of this system takes its settings from these; the `bottles`
//! command has an option for each of those that concern it, which wins over the
//! variable, and the services read them all into one [`Settings`]. The table in
//! README.md is made from [`VARIABLES`], and a test holds the two together.

mod environment;
mod settings;

pub use environment::{ConfigError, Environment};
pub use settings::{EcsSettings, QueueUrls, Settings};

/// Every variable begins with this, and every variable that does is ours.
pub const PREFIX: &str = "BOTTLES_";

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The value where it is not set; empty where it must be, or needn't be.
    pub default: &'static str,
    /// The command's option that wins over it; empty where it has none.
    pub option: &'static str,
    /// Which of the services read it; empty where only the command does.
    pub services: &'static str,
    /// What it means.
    pub doc: &'static str,
}

macro_rules! variables {
    ($($constant:ident $name:literal $default:literal $option:literal $services:literal $doc:literal;)+) => {
        $(#[doc = $doc] pub const $constant: Variable = Variable {
            name: $name, default: $default, option: $option, services: $services, doc: $doc,
        };)+
        /// All of them, in the order of their table.
        pub const VARIABLES: &[Variable] = &[$($constant),+];
    };
}

variables! {
    TO "BOTTLES_TO" "" "--to" "all"
        "The mirror: a folder, or `s3://BUCKET` or `s3://BUCKET/PREFIX`. The services take a bucket.";
    STATE "BOTTLES_STATE" "" "--state" ""
        "The folder of the queue where the mirror is a bucket: by default one for each bucket and prefix in `$XDG_STATE_HOME/bottles`, or `~/.local/state/bottles`.";
    S3_ENDPOINT "BOTTLES_S3_ENDPOINT" "" "--s3-endpoint" "all"
        "The URL of a store that speaks as S3 does; the bucket is named in the path there.";
    SELECTION "BOTTLES_SELECTION" "" "--selection" "producer"
        "Which bottles to keep; everything where absent. For the command a TOML file; for the producer the TOML itself, or `s3://BUCKET/KEY`.";
    API_URL "BOTTLES_API_URL" "https://formulae.brew.sh/api" "--api-url" "producer"
        "The folder of upstream's API files; `formula.json` in it is the catalogue.";
    REWRITE "BOTTLES_REWRITE" "" "--rewrite" "all"
        "`FROM=TO` pairs of origins, comma-separated: requests for the one go to the other. A target is allowed by being named.";
    ALLOW_HOST "BOTTLES_ALLOW_HOST" "" "--allow-host" "all"
        "Further hosts (`HOST` or `HOST:PORT`, comma-separated) that may be asked, over plain HTTP too. By default only ghcr.io and pkg-containers.githubusercontent.com, over HTTPS.";
    SIZE_THRESHOLD "BOTTLES_SIZE_THRESHOLD" "500MB" "--size-threshold" "producer"
        "Larger bottles go to the large queue.";
    CONCURRENCY "BOTTLES_CONCURRENCY" "16" "--concurrency" "all"
        "How many small bottles are on their way at once, in one process; of the large ones a quarter as many. The producer reads as many image indexes at once.";
    MEMORY "BOTTLES_MEMORY" "128MiB" "--memory" "consumers"
        "How much of bottles may be in memory at once, over all transfers of a process; at least 16MiB. consumer-lambda takes three quarters of what its function has beyond 96 MiB instead, unless it is set.";
    REQUESTS_PER_SECOND "BOTTLES_REQUESTS_PER_SECOND" "100" "--requests-per-second" "all"
        "The limit on requests to upstream, shared by all transfers of a process.";
    ENVIRONMENT "BOTTLES_ENVIRONMENT" "bottles" "--stack" "all"
        "The name of this deployment: what `--stack` takes, notifications name, and metrics have as their `Environment`.";
    SMALL_QUEUE "BOTTLES_SMALL_QUEUE" "" "--small-queue" "producer, consumer-lambda"
        "The URL of the small queue.";
    SMALL_DEAD_LETTERS "BOTTLES_SMALL_DEAD_LETTERS" "" "--small-dead-letters" "producer, consumer-lambda"
        "The URL of its dead-letter queue.";
    LARGE_QUEUE "BOTTLES_LARGE_QUEUE" "" "--large-queue" "producer, consumer-ecs"
        "The URL of the large queue.";
    LARGE_DEAD_LETTERS "BOTTLES_LARGE_DEAD_LETTERS" "" "--large-dead-letters" "producer, consumer-ecs"
        "The URL of its dead-letter queue.";
    PRODUCER "BOTTLES_PRODUCER" "" "--producer" ""
        "The name of the function that plans.";
    ECS_CLUSTER "BOTTLES_ECS_CLUSTER" "" "--ecs-cluster" "producer"
        "The cluster that consumer-ecs runs in.";
    ECS_SERVICE "BOTTLES_ECS_SERVICE" "" "--ecs-service" "producer"
        "Its service, whose desired count a plan raises when it queues large bottles.";
    MOST_TASKS "BOTTLES_MOST_TASKS" "4" "" "producer"
        "A plan raises the desired count to no more than this.";
    BOTTLES_PER_TASK "BOTTLES_PER_TASK" "25" "" "producer"
        "A plan asks for one task for so many large bottles.";
    MOST_RECEIVES "BOTTLES_MOST_RECEIVES" "5" "" "consumers"
        "How often a message is received before a failure that may pass is taken for one that won't. The queues' own limit must be higher.";
    VISIBILITY "BOTTLES_VISIBILITY" "2m" "" "consumer-ecs"
        "How long a received message stays hidden unless it is extended, which happens three times in that time.";
    STOP_TIMEOUT "BOTTLES_STOP_TIMEOUT" "110s" "" "consumer-ecs"
        "How long transfers may go on after SIGTERM; less than the container's stop timeout.";
    HEALTH_FILE "BOTTLES_HEALTH_FILE" "" "" "consumer-ecs"
        "A file that is touched while the worker is well, for `consumer-ecs health` to look at.";
    LOST_AFTER "BOTTLES_LOST_AFTER" "30m" "" "producer"
        "A bottle that was queued this long ago, while the queues are empty and no receipt names it, has lost its message.";
    STALLED_AFTER "BOTTLES_STALLED_AFTER" "2h" "" "producer"
        "A run without progress for this long is stalled.";
    EXPIRE_AFTER "BOTTLES_EXPIRE_AFTER" "90d" "--expire-after" "producer"
        "A bottle that upstream dropped, and that no published API file names any more, is kept for this long. A folder's are removed then; a bucket's by its lifecycle rule, which must say the same.";
    SLACK_SECRET "BOTTLES_SLACK_SECRET" "" "" "producer"
        "The name of the secret in Secrets Manager that holds the URL of Slack's incoming webhook. Not the URL itself.";
    SNS_TOPIC "BOTTLES_SNS_TOPIC" "" "" "producer"
        "The ARN of the topic that notifications go to.";
    LOG "BOTTLES_LOG" "warn" "--log" "all"
        "What is logged: `error`, `warn`, `info`, `debug` of this system's own code (of its libraries no more than `warn`), or a filter such as `common::worker=debug`. The services log `info` unless it is set.";
    LOG_FORMAT "BOTTLES_LOG_FORMAT" "text" "--log-format" "all"
        "`text`, or `json`: one object a line. The services log `json` unless it is set.";
}

/// A variable that begins with our prefix and is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is no variable of this system{}; unset it, or see the table of variables in README.md", suggestion(.name))]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
}

/// Refuses variables that begin with our prefix and mean nothing: a misspelled
/// one would be passed over in silence otherwise.
pub fn check_unknown(names: impl IntoIterator<Item = String>) -> Result<(), UnknownVariable> {
    let mut unknown: Vec<_> = names
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && VARIABLES.iter().all(|variable| variable.name != name))
        .collect();
    unknown.sort();
    match unknown.into_iter().next() {
        Some(name) => Err(UnknownVariable { name }),
        None => Ok(()),
    }
}

/// The table of README.md.
pub fn table() -> String {
    let mut table = String::from(
        "| variable | option | services | default | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    for Variable { name, default, option, services, doc } in VARIABLES {
        let (option, default) = (code(option), code(default));
        let row = format!("| `{name}` | {option} | {services} | {default} | {doc} |\n");
        table.push_str(&row);
    }
    table
}

fn suggestion(name: &str) -> String {
    let distance = |other: &str| {
        let same = name.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
        let from_end = name.chars().rev().zip(other.chars().rev()).take_while(|(a, b)| a == b).count();
        name.len().max(other.len()).saturating_sub(same + from_end)
    };
    let closest = VARIABLES.iter().min_by_key(|variable| distance(variable.name));
    closest
        .filter(|variable| distance(variable.name) <= 3)
        .map(|variable| format!(" (is {} meant?)", variable.name))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_variable_is_refused_by_name() {
        let names = |names: &[&str]| check_unknown(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(names(&["PATH", "BOTTLES_MEMORY", "BOTTLESX"]), Ok(()));
        let error = names(&["BOTTLES_MEMRY"]).unwrap_err().to_string();
        assert!(error.contains("BOTTLES_MEMRY") && error.contains("is BOTTLES_MEMORY meant?"), "{error}");
        assert!(!names(&["BOTTLES_SOMETHING_ELSE"]).unwrap_err().to_string().contains("meant"));
    }

    #[test]
    fn every_variable_has_the_prefix() {
        assert!(VARIABLES.iter().all(|variable| variable.name.starts_with(PREFIX)));
    }
}
