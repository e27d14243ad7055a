//! What is printed, and the exit code.
use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

/// How a command ended, other than by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is done.
    Done,
    /// Something was left undone, and was said.
    Failed,
    /// All is done that could be, and something was said that needs attention: dead
    /// letters, files that wait, a mirror that is not sound.
    Attention,
}

/// The command line was right in form, but asks for what can't be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Attention => 3,
        })
    }
}

/// Prints a line; a reader that went away is no error.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Says something beside what is printed.
pub(crate) fn warn(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "bottles: warning: {text}");
}

/// Prints an error and what led to it.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    // Errors of this project name their causes themselves; others don't.
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    let _ = writeln!(std::io::stderr(), "bottles: {text}");
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// `1 bottle`, `2 bottles`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    let plural = match thing.chars().last() {
        Some('a') => format!("{thing}e"),
        Some('x') => format!("{thing}es"),
        _ => format!("{thing}s"),
    };
    if count == 1 { format!("1 {thing}") } else { format!("{} {plural}", grouped(count)) }
}

/// `56,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_things_counted() {
        assert_eq!((grouped(0), grouped(999), grouped(56_000)), ("0".into(), "999".into(), "56,000".into()));
        assert_eq!(counted(1, "bottle"), "1 bottle");
        assert_eq!(counted(1234, "index"), "1,234 indexes");
        assert_eq!(counted(2, "formula"), "2 formulae");
    }
}
