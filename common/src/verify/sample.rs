//! A random part of the bottles.

use std::fmt;
use std::str::FromStr;

use crate::run::random;

/// A part of the whole, in percent: more than none, up to all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample(f64);

/// Text that names no part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no part of the bottles: write a percentage above 0 and up to 100, such as 5% or 0.5%")]
pub struct InvalidSample(String);

impl Sample {
    /// How many of `all` the part is: at least one, if there are any.
    fn of(self, all: usize) -> usize {
        #[expect(clippy::cast_precision_loss, reason = "a mirror holds far fewer than 2^53 bottles")]
        let part = (all as f64 * self.0 / 100.0).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is positive and no more than `all`"
        )]
        let part = part as usize;
        part.clamp(usize::from(all > 0), all)
    }

    /// A random part of `items`, in random order.
    pub(super) fn pick<T>(self, mut items: Vec<T>) -> Vec<T> {
        let part = self.of(items.len());
        for at in 0..part {
            let left = (items.len() - at) as u64;
            let step = usize::try_from(random() % left).unwrap_or(0);
            items.swap(at, at + step);
        }
        items.truncate(part);
        items
    }
}

impl FromStr for Sample {
    type Err = InvalidSample;

    fn from_str(text: &str) -> Result<Self, InvalidSample> {
        let number = text.trim();
        let number = number.strip_suffix('%').unwrap_or(number).trim_end();
        match number.parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err(InvalidSample(text.to_owned())),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_part_is_a_percentage_with_or_without_its_sign() {
        for (text, expected) in [("5%", 5.0), ("0.5%", 0.5), ("5", 5.0), (" 100 % ", 100.0)] {
            assert_eq!(text.parse(), Ok(Sample(expected)), "{text:?}");
        }
        for text in ["", "%", "0", "0%", "-1", "100.1%", "101", "5%%", "a", "NaN", "inf"] {
            assert!(text.parse::<Sample>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_sample_has_its_size_and_is_another_one_each_time() {
        let pick = |text: &str| text.parse::<Sample>().unwrap().pick((0..1000).collect::<Vec<u32>>());
        for (text, size) in [("5%", 50), ("0.05%", 1), ("0.11%", 2), ("100%", 1000)] {
            let picked = pick(text);
            assert_eq!(picked.len(), size, "{text}");
            assert_eq!(picked.iter().collect::<BTreeSet<_>>().len(), size, "{text}: one was picked twice");
        }
        assert_ne!(pick("5%"), pick("5%"));
        let seen: BTreeSet<u32> = (0..200).flat_map(|_| pick("5%")).collect();
        assert!(seen.len() > 990, "only {} of 1000 are ever picked", seen.len());
        assert!("5%".parse::<Sample>().unwrap().pick(Vec::<u32>::new()).is_empty());
    }
}
