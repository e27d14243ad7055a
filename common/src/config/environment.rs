//! Reading variables.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use super::{UnknownVariable, Variable, check_unknown};

/// The variables that are set. An empty one counts as not set.
#[derive(Debug, Clone)]
pub struct Environment(BTreeMap<String, String>);

/// A variable that is missing, or can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is none of ours.
    #[error(transparent)]
    Unknown(#[from] UnknownVariable),
    /// It must be set.
    #[error("{name} must be set: {doc}")]
    Missing {
        /// Its name.
        name: &'static str,
        /// What it means.
        doc: &'static str,
    },
    /// Its value can't be used.
    #[error("{name}={value}: {why}")]
    Invalid {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// It goes with another one that is not set, or is.
    #[error("{name} and {other} go together: set both, or neither")]
    Halved {
        /// The one that is set.
        name: &'static str,
        /// The one that is not.
        other: &'static str,
    },
}

impl Environment {
    /// This process's variables.
    pub fn of_process() -> Result<Self, ConfigError> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::new(std::env::vars_os().filter_map(text))
    }

    /// These variables; one that begins with our prefix and is none of ours is refused.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let variables: BTreeMap<_, _> = variables.into_iter().collect();
        check_unknown(variables.keys().cloned())?;
        Ok(Self(variables))
    }

    /// The value, if it is set.
    pub fn get(&self, variable: &Variable) -> Option<&str> {
        self.0.get(variable.name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value, or its default; an error if it has neither.
    pub fn required<T: FromStr<Err: Display>>(&self, variable: &Variable) -> Result<T, ConfigError> {
        let default = Some(variable.default).filter(|default| !default.is_empty());
        match self.get(variable).or(default) {
            Some(value) => parse(variable, value),
            None => Err(ConfigError::Missing { name: variable.name, doc: variable.doc }),
        }
    }

    /// The value, if it is set.
    pub fn optional<T: FromStr<Err: Display>>(&self, variable: &Variable) -> Result<Option<T>, ConfigError> {
        self.get(variable).map(|value| parse(variable, value)).transpose()
    }

    /// The values between commas.
    pub fn list<T: FromStr<Err: Display>>(&self, variable: &Variable) -> Result<Vec<T>, ConfigError> {
        let values = self.get(variable).unwrap_or_default().split(',').map(str::trim);
        values.filter(|value| !value.is_empty()).map(|value| parse(variable, value)).collect()
    }

    /// A number of at least one.
    pub fn positive<T>(&self, variable: &Variable) -> Result<T, ConfigError>
    where
        T: FromStr<Err: Display> + Default + PartialEq + Display,
    {
        let value: T = self.required(variable)?;
        if value == T::default() {
            return Err(invalid(variable, &value.to_string(), "it is at least 1"));
        }
        Ok(value)
    }

    /// A time such as `90s`, `30m`, `2h`.
    pub fn duration(&self, variable: &Variable) -> Result<Duration, ConfigError> {
        let text: String = self.required(variable)?;
        let duration: SignedDuration = parse(variable, &text)?;
        Duration::try_from(duration).map_err(|_| invalid(variable, &text, "it is not negative"))
    }
}

pub(super) fn invalid(variable: &Variable, value: &str, why: impl Display) -> ConfigError {
    ConfigError::Invalid { name: variable.name, value: value.to_owned(), why: why.to_string() }
}

fn parse<T: FromStr<Err: Display>>(variable: &Variable, value: &str) -> Result<T, ConfigError> {
    value.parse().map_err(|error| invalid(variable, value, error))
}
