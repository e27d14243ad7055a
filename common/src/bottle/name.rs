//! Formula names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{InvalidName, serde_as_text};

/// A formula's full name: `openssl@3` in core, `brewsci/bio/abacas` in a tap.
///
/// Cheap to clone. Each segment holds letters, digits and `@ + . _ -`, and
/// begins with a letter, a digit or `_`; there are one or three segments.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormulaName(Arc<str>);

impl FormulaName {
    /// The full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its tap.
    pub fn short(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Its tap, `USER/TAP`; `None` in core.
    pub fn tap(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(tap, _)| tap)
    }
}

impl FromStr for FormulaName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| Err(InvalidName::new("formula name", text, why));
        if text.len() > 255 {
            return refuse("it is longer than 255 bytes");
        }
        if !matches!(text.split('/').count(), 1 | 3) {
            return refuse("it takes `name` or `user/tap/name`");
        }
        for segment in text.split('/') {
            if !segment.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
                return refuse("each part begins with a letter, a digit or _");
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"@+._-".contains(&b)) {
                return refuse("it holds only letters, digits and @ + . _ -");
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for FormulaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FormulaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(FormulaName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_names_are_taken() {
        for name in [
            "openssl@3",
            "gtk+3",
            "c++filt",
            "python@3.14",
            "a52dec",
            "brewsci/bio/meme@4.11.2",
            "_x",
            "x.y-z_1",
        ] {
            assert_eq!(name.parse::<FormulaName>().unwrap().as_str(), name);
        }
        let name = "brewsci/bio/abacas".parse::<FormulaName>().unwrap();
        assert_eq!((name.tap(), name.short()), (Some("brewsci/bio"), "abacas"));
        assert_eq!("wget".parse::<FormulaName>().unwrap().tap(), None);
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for name in [
            "",
            "..",
            "../x",
            "a/b",
            "a/../b",
            "/a/b/c",
            "a//b",
            "a b",
            "a\\b",
            "a\n",
            "-x",
            ".x",
            "é",
            &"x".repeat(256),
        ] {
            assert!(name.parse::<FormulaName>().is_err(), "{name:?} was taken");
        }
    }
}
