//! Names in paths of URLs: escaped as brew escapes the names of flat files.

use std::fmt::Write as _;

/// Every byte but letters, digits and `-._~` as `%XX`.
pub(crate) fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to memory can't fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// The text that a path stands for; `None` if it is no UTF-8 or a `%` is followed by
/// anything but two hexadecimal digits.
pub(crate) fn unescape(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let mut byte = [0];
        hex::decode_to_slice(part.get(..2)?, &mut byte).ok()?;
        bytes.extend(byte);
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_escaped_is_read_back() {
        let name = "c++filt@1.2-3_4~é.all.bottle.tar.gz";
        assert_eq!(escape(name), "c%2B%2Bfilt%401.2-3_4~%C3%A9.all.bottle.tar.gz");
        assert_eq!(unescape(&escape(name)).as_deref(), Some(name));
        assert_eq!(unescape("/a/b++").as_deref(), Some("/a/b++"));
        for broken in ["%", "a%2", "%zz", "%C3"] {
            assert_eq!(unescape(broken), None, "{broken}");
        }
    }
}
