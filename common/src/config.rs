//! The environment variables, each declared once.
//!
//! Every program of this system takes its settings from these; the `bottles`
//! command has an option for each of those that concern it, which wins over the
//! variable. The table in README.md is made from [`VARIABLES`], and a test
//! holds the two together.

/// Every variable begins with this, and every variable that does is ours.
pub const PREFIX: &str = "BOTTLES_";

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The value where it is not set; empty where it must be, or needn't be.
    pub default: &'static str,
    /// The command's option that wins over it.
    pub option: &'static str,
    /// What it means.
    pub doc: &'static str,
}

macro_rules! variables {
    ($($constant:ident $name:literal $default:literal $option:literal $doc:literal;)+) => {
        $(#[doc = $doc] pub const $constant: Variable =
            Variable { name: $name, default: $default, option: $option, doc: $doc };)+
        /// All of them, in the order of their table.
        pub const VARIABLES: &[Variable] = &[$($constant),+];
    };
}

variables! {
    TO "BOTTLES_TO" "" "--to"
        "The folder of the mirror.";
    SELECTION "BOTTLES_SELECTION" "" "--selection"
        "A TOML file that says which bottles to keep; everything where absent.";
    API_URL "BOTTLES_API_URL" "https://formulae.brew.sh/api" "--api-url"
        "The folder of upstream's API files; `formula.json` in it is the catalogue.";
    REWRITE "BOTTLES_REWRITE" "" "--rewrite"
        "`FROM=TO` pairs of origins, comma-separated: requests for the one go to the other. A target is allowed by being named.";
    ALLOW_HOST "BOTTLES_ALLOW_HOST" "" "--allow-host"
        "Further hosts (`HOST` or `HOST:PORT`, comma-separated) that may be asked, over plain HTTP too. By default only ghcr.io and pkg-containers.githubusercontent.com, over HTTPS.";
    SIZE_THRESHOLD "BOTTLES_SIZE_THRESHOLD" "500MB" "--size-threshold"
        "Larger bottles go to the large queue.";
    CONCURRENCY "BOTTLES_CONCURRENCY" "16" "--concurrency"
        "How many small bottles are on their way at once; of the large ones a quarter as many.";
    MEMORY "BOTTLES_MEMORY" "128MiB" "--memory"
        "How much of bottles may be in memory at once, over all transfers; at least 16MiB.";
    REQUESTS_PER_SECOND "BOTTLES_REQUESTS_PER_SECOND" "100" "--requests-per-second"
        "The shared limit on requests to upstream.";
    LOG "BOTTLES_LOG" "warn" "--log"
        "What is logged to standard error: `error`, `warn`, `info`, `debug`, or a filter such as `common::worker=debug`.";
    LOG_FORMAT "BOTTLES_LOG_FORMAT" "text" "--log-format"
        "`text`, or `json`: one object a line.";
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
    let mut table = String::from("| variable | option | default | meaning |\n| --- | --- | --- | --- |\n");
    for Variable { name, default, option, doc } in VARIABLES {
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let row = format!("| `{name}` | `{option}` | {default} | {doc} |\n");
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
