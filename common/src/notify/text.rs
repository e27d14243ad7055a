//! How numbers, times and other people's text read in a notice.

use std::time::Duration;

use jiff::Timestamp;

use crate::run::Count;
use crate::size::ByteSize;

/// `1 bottle`, `2 bottles`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// `2 bottles, 3.0 MB`.
pub(super) fn bottles(count: Count) -> String {
    format!("{}, {}", counted(count.bottles, "bottle"), ByteSize(count.bytes))
}

/// The two largest units: `2 h 5 min`, `4 min 10 s`, `45 s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let shown = units[first..].iter().take(2).filter(|(number, _)| *number > 0);
    let words: Vec<_> = shown.map(|(number, unit)| format!("{number} {unit}")).collect();
    if words.is_empty() { "0 s".to_owned() } else { words.join(" ") }
}

/// `2026-11-23 10:15:00 UTC`.
pub(super) fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// One line without control characters.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines without other control characters, which no mail and no channel shows.
pub(super) fn lines(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

/// At most `most` characters; an ellipsis says that there were more.
pub(super) fn cut(text: &str, most: usize) -> String {
    assemble(text.chars().map(String::from), most)
}

/// Joins pieces, none of them broken, to at most `most` characters; an ellipsis
/// says that there were more.
pub(super) fn assemble(pieces: impl Iterator<Item = String>, most: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    // Where the ellipsis goes if the rest does not fit.
    let mut end = 0;
    for piece in pieces {
        used += piece.chars().count();
        if used > most {
            text.truncate(end);
            if most > 0 {
                text.push('…');
            }
            return text;
        }
        text.push_str(&piece);
        if used < most {
            end = text.len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_as_people_say_it() {
        for (seconds, words) in [
            (0, "0 s"),
            (45, "45 s"),
            (60, "1 min"),
            (250, "4 min 10 s"),
            (7500, "2 h 5 min"),
            (3601, "1 h"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), words);
        }
        assert_eq!(duration(Duration::from_millis(900)), "0 s");
    }

    #[test]
    fn text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("déjà vu", 7), "déjà vu");
        assert_eq!(cut("déjà vu", 5), "déjà…");
        assert_eq!(cut("déjà vu", 1), "…");
        assert_eq!(cut("déjà vu", 0), "");
        let pieces = || ["a", "&amp;", "b"].into_iter().map(str::to_owned);
        assert_eq!(assemble(pieces(), 7), "a&amp;b");
        assert_eq!(assemble(pieces(), 6), "a…", "no entity is broken, and there is room for the ellipsis");
        assert_eq!(assemble(pieces(), 5), "a…");
    }

    #[test]
    fn control_characters_go() {
        assert_eq!(one_line(" a\r\nb\tc\u{1b}[31m "), "a b c [31m");
        assert_eq!(lines("a\nb\r\u{7}\n"), "a\nb");
    }
}
