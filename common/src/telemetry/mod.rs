//! Logs, to standard error.

mod json;

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is no log format: it is text or json")),
        }
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter can't be read.
    #[error("{filter:?} is no log filter: write error, warn, info, debug, or target=level")]
    Filter {
        /// As it was given.
        filter: String,
    },
    /// It was set up before.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

/// Logs what `filter` lets through, written by `writer`; `colours` are for a
/// terminal that shows text.
pub fn init<W>(filter: &str, format: LogFormat, colours: bool, writer: W) -> Result<(), TelemetryError>
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let levels = EnvFilter::builder()
        .parse(directives(filter))
        .map_err(|_| TelemetryError::Filter { filter: filter.to_owned() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(levels).with_writer(writer);
    match format {
        LogFormat::Text => builder.with_target(false).with_ansi(colours).compact().finish().try_init()?,
        LogFormat::Json => {
            builder.fmt_fields(JsonFields::new()).event_format(json::FlatJson).finish().try_init()?;
        }
    }
    Ok(())
}

/// This project's own programs and libraries.
const OWN: [&str; 5] = ["bottles", "common", "consumer_ecs", "consumer_lambda", "producer"];

/// Here the SDK warns, at each read, of a bottle that was uploaded in parts: S3 keeps
/// checksums of the parts then, as it is told to.
const PART_CHECKSUMS: &str = "aws_sdk_s3::http_response_checksum";

/// A level alone is about our own code: what libraries say below `warn` is much,
/// and may hold what must not be logged, such as the headers of requests. Whoever
/// wants it names the library.
fn directives(filter: &str) -> String {
    let Ok(level) = filter.parse::<LevelFilter>() else { return filter.to_owned() };
    let own: Vec<_> = OWN.iter().map(|name| format!("{name}={level}")).collect();
    let quiet = level.min(LevelFilter::ERROR);
    format!("{},{},{PART_CHECKSUMS}={quiet}", level.min(LevelFilter::WARN), own.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_about_our_own_code() {
        assert!(directives("debug").starts_with("warn,bottles=debug,common=debug"));
        assert!(directives("error").starts_with("error,bottles=error"));
        assert!(directives("OFF").starts_with("off,"));
        assert!(
            directives("debug").ends_with("checksum=error") && directives("off").ends_with("checksum=off")
        );
        assert_eq!(directives("hyper=trace,info"), "hyper=trace,info");
    }
}
