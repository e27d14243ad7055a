//! The one wildcard of fault and log patterns.

/// True if the whole of `text` matches `pattern`, where `*` stands for any run of
/// bytes, also an empty one, also one with slashes. Nothing else is special.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let Some((middle, last)) = rest.rsplit_once('*') else {
        return text.ends_with(rest);
    };
    // The earliest place for each piece leaves the most for those after it.
    for piece in middle.split('*') {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_crosses_slashes_and_may_be_empty() {
        assert!(matches("cdn:*", "cdn:/ghcr1/blobs/sha256:ab"));
        assert!(matches("*sha256:ab", "cdn:/ghcr1/blobs/sha256:ab"));
        assert!(matches("*:/v2/*/blobs/*", "registry:/v2/homebrew/core/gtk/3/blobs/x"));
        assert!(matches("api:/a*", "api:/a"));
        assert!(matches("a**c", "abc"));
    }

    #[test]
    fn the_whole_text_must_match() {
        assert!(!matches("cdn:/ghcr1", "cdn:/ghcr1/blobs"));
        assert!(!matches("*blobs", "cdn:/ghcr1/blobs/x"));
        assert!(!matches("ab*bc", "abc"));
        assert!(!matches("a*b*c", "acb"));
    }
}
