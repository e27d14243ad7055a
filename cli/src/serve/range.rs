//! The part of an object that a request asks for.
//! <https://www.rfc-editor.org/rfc/rfc9110#section-14>

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it: no header that is understood.
    Whole,
    /// These bytes, which are there.
    Part(Range<u64>),
    /// Bytes that are not there.
    Outside,
}

/// What is asked for of an object of `size` bytes. Several ranges are answered with
/// the whole: brew asks for none at all, and those who do for one.
pub(super) fn asked(header: &str, size: u64) -> Asked {
    let Some(spec) = bytes_of(header) else { return Asked::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Asked::Whole };
    let range = match (first, last) {
        ("", last) => number(last).map(|length| size.saturating_sub(length)..size),
        (first, "") => number(first).map(|first| first..size),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(first..size.min(last.saturating_add(1))),
            _ => None,
        },
    };
    match range {
        None => Asked::Whole,
        Some(range) if range.start < range.end => Asked::Part(range),
        Some(_) => Asked::Outside,
    }
}

fn bytes_of(header: &str) -> Option<&str> {
    let (unit, spec) = header.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(spec.trim())
}

/// A number too large to be told is larger than every object.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_a_part_of_what_is_there() {
        let huge = "9".repeat(30);
        for (header, range) in [
            ("bytes=0-0".to_owned(), 0..1),
            ("bytes=2-5".to_owned(), 2..6),
            ("bytes=2-".to_owned(), 2..10),
            ("bytes=0-9".to_owned(), 0..10),
            ("bytes=9-99".to_owned(), 9..10),
            ("bytes=-3".to_owned(), 7..10),
            ("bytes=-99".to_owned(), 0..10),
            ("Bytes= 2-5 ".to_owned(), 2..6),
            (format!("bytes=4-{huge}"), 4..10),
            (format!("bytes=4-{}", u64::MAX), 4..10),
        ] {
            assert_eq!(asked(&header, 10), Asked::Part(range), "{header}");
        }
    }

    #[test]
    fn what_is_not_there_is_outside() {
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0", &format!("bytes={}-", "9".repeat(30))] {
            assert_eq!(asked(header, 10), Asked::Outside, "{header}");
        }
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(asked(header, 0), Asked::Outside, "{header}");
        }
    }

    #[test]
    fn what_is_not_understood_is_the_whole() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=0-1,4-5",
            "items=0-1",
            "bytes=1 -2",
        ] {
            assert_eq!(asked(header, 10), Asked::Whole, "{header}");
        }
    }
}
