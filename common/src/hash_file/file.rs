//! Reads the file, entry by entry: a bad one harms no other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bottle::Digest;
use crate::mirror::LARGEST_BOTTLE;
use crate::registry::LARGEST_API_FILE;

use super::name::EntryKey;
use super::report::{Skipped, Why, harmless};

/// The largest file that is read, in bytes, from servers too; 56,000 bottles make some 10 MB.
pub const LARGEST: u64 = LARGEST_API_FILE as u64;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HashFile {
    /// When it was last written, in its own words.
    pub last_updated: Option<String>,
    /// Its entries by key. Of two with the same key the later one holds.
    pub entries: BTreeMap<EntryKey, HashEntry>,
    /// Entries that can't be read.
    pub rejected: Vec<Skipped>,
}

/// What it says of one bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashEntry {
    /// The sha256 of its bytes.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A file that is no such record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashFileError {
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It is a web page, as servers send in place of what is not there.
    #[error("it is a web page and no JSON: name the file itself")]
    WebPage,
    /// It is compressed.
    #[error("it is gzip: unpack it first")]
    Gzip,
    /// It is text in another encoding than JSON's.
    #[error("it is UTF-16: write it as UTF-8")]
    Utf16,
    /// It is larger than [`LARGEST`].
    #[error("it is larger than {} MiB", LARGEST >> 20)]
    TooLarge,
    /// It is no JSON of this shape.
    #[error("it is no JSON object with `bottles` in it: {0}")]
    Malformed(String),
}

impl HashFile {
    /// Reads a whole file.
    pub fn parse(bytes: &[u8]) -> Result<Self, HashFileError> {
        if bytes.len() as u64 > LARGEST {
            return Err(HashFileError::TooLarge);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match bytes.trim_ascii_start() {
            [] => return Err(HashFileError::Empty),
            [b'<', ..] => return Err(HashFileError::WebPage),
            [0x1f, 0x8b, ..] => return Err(HashFileError::Gzip),
            // A mark of either order, or a brace with a zero beside it.
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{', 0, ..] | [0, b'{', ..] => {
                return Err(HashFileError::Utf16);
            }
            _ => {}
        }
        let malformed = |error: serde_json::Error| HashFileError::Malformed(error.to_string());
        let mut file = Self::default();
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let has_bottles = Document(&mut file).deserialize(&mut deserializer).map_err(malformed)?;
        deserializer.end().map_err(malformed)?;
        if has_bottles { Ok(file) } else { Err(HashFileError::Malformed("there is none".to_owned())) }
    }

    fn take(&mut self, key: &RawValue, value: &RawValue) {
        let Ok(key) = serde_json::from_str::<Cow<'_, str>>(key.get()) else {
            return self.rejected.push(Skipped::new(key.get(), Why::Malformed, "its key is no text"));
        };
        let key = &*key;
        let value = serde_json::from_str(value.get()).map_err(|error| error.to_string());
        match value.and_then(|value| read(key, &value)) {
            Ok((key, entry)) => {
                self.entries.insert(key, entry);
            }
            Err(why) => self.rejected.push(Skipped::new(key, Why::Malformed, why)),
        }
    }
}

/// One entry; the error says what is wrong with it.
fn read(key: &str, value: &Value) -> Result<(EntryKey, HashEntry), String> {
    let key = key.parse::<EntryKey>().map_err(|error| error.why.to_owned())?;
    let entry = value.as_object().ok_or("it is no object")?;
    let field = |name: &'static str| entry.get(name).ok_or(format!("it has no {name}"));
    let sha256 = field("sha256")?
        .as_str()
        .and_then(|text| text.to_ascii_lowercase().parse().ok())
        .ok_or("its sha256 is not 64 hexadecimal digits")?;
    let size = field("file_size")?
        .as_u64()
        .filter(|size| *size > 0)
        .ok_or("its file_size is no number of bytes above zero")?;
    if size > LARGEST_BOTTLE {
        return Err(format!("its file_size is larger than any bottle: {} GiB at most", LARGEST_BOTTLE >> 30));
    }
    Ok((key, HashEntry { sha256, size }))
}

/// The whole file; whether there is a `bottles` in it.
struct Document<'a>(&'a mut HashFile);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut has_bottles = false;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "bottles" => {
                    map.next_value_seed(Bottles(self.0))?;
                    has_bottles = true;
                }
                "last_updated" => {
                    self.0.last_updated = map.next_value::<Value>()?.as_str().map(harmless);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(has_bottles)
    }
}

/// The object of entries.
struct Bottles<'a>(&'a mut HashFile);

impl<'de> DeserializeSeed<'de> for Bottles<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Bottles<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of bottles")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut last: Option<&RawValue> = None;
        loop {
            // Each on its own: what can't be read of one is known to be no other's.
            let next = map.next_entry::<&'de RawValue, &'de RawValue>();
            let Some((key, value)) = next.map_err(|error| after(last, error))? else { return Ok(()) };
            self.0.take(key, value);
            last = Some(key);
        }
    }
}

/// Says where something is that is no JSON at all.
fn after<E: serde::de::Error>(last: Option<&RawValue>, error: E) -> E {
    match last {
        Some(key) => E::custom(format_args!("after the entry {}: {error}", harmless(key.get()))),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(of: &str) -> String {
        Digest::of(of.as_bytes()).to_string()
    }

    #[test]
    fn bad_entries_are_named_and_the_others_taken() {
        let (good, upper) = (sha("a"), sha("b").to_uppercase());
        let entry = |sha: &str, size: &str| format!(r#"{{"sha256":"{sha}","file_size":{size}}}"#);
        let text = format!(
            r#"{{"version": 3, "bottles": {{
                "a-1.0-all": {{"sha256":"{good}","download_date":"2026-01-02T03:04:05","file_size":5,"more":[1]}},
                "b-1.0-arm64_tahoe": {},
                "short-1.0-all": {}, "zero-1.0-all": {}, "minus-1.0-all": {}, "half-1.0-all": {},
                "text-1.0-all": {}, "nosize-1.0-all": {{"sha256":"{good}"}}, "nosha-1.0-all": {{"file_size":5}},
                "number-1.0-all": 7, "null-1.0-all": null, "list-1.0-all": [], "nokey": {},
                "b-1.0-Nowhere": {}}}}}"#,
            entry(&upper, "6"),
            entry(&good[1..], "5"),
            entry(&good, "0"),
            entry(&good, "-5"),
            entry(&good, "5.5"),
            entry(&good, "\"5\""),
            entry(&good, "5"),
            entry(&good, "5"),
        );
        let file = HashFile::parse(text.as_bytes()).unwrap();
        let taken: Vec<_> = file.entries.iter().map(|(key, entry)| (key.as_str(), entry.size)).collect();
        assert_eq!(taken, [("a-1.0-all", 5), ("b-1.0-arm64_tahoe", 6)]);
        assert_eq!(file.entries.values().next_back().unwrap().sha256, Digest::of(b"b"));
        let rejected: Vec<_> = file.rejected.iter().map(|skipped| skipped.key.as_str()).collect();
        assert_eq!(
            rejected,
            [
                "short-1.0-all",
                "zero-1.0-all",
                "minus-1.0-all",
                "half-1.0-all",
                "text-1.0-all",
                "nosize-1.0-all",
                "nosha-1.0-all",
                "number-1.0-all",
                "null-1.0-all",
                "list-1.0-all",
                "nokey",
                "b-1.0-Nowhere",
            ]
        );
        for (skipped, word) in file.rejected.iter().zip(["sha256", "file_size", "file_size"]) {
            assert!(skipped.detail.contains(word), "{skipped:?}");
        }
        assert_eq!(file.last_updated, None);
    }

    #[test]
    fn an_entry_that_no_json_reader_takes_harms_no_other() {
        let good = format!(r#"{{"sha256":"{}","file_size":5}}"#, sha("a"));
        let huge = format!(r#"{{"sha256":"{}","file_size":1e999}}"#, sha("a"));
        let absurd = format!(r#"{{"sha256":"{}","file_size":18446744073709551615}}"#, sha("a"));
        let most = format!(r#"{{"sha256":"{}","file_size":{LARGEST_BOTTLE}}}"#, sha("a"));
        let text = format!(
            r#"{{"bottles":{{"a-1-all":{good},"huge-1-all":{huge},"\ud800-1-all":{good},
                "absurd-1-all":{absurd},"deep-1-all":{},"m-1-all":{most},"z-1-all":{good}}}}}"#,
            "[".repeat(500) + &"]".repeat(500)
        );
        let file = HashFile::parse(text.as_bytes()).unwrap();
        let taken: Vec<_> = file.entries.keys().map(EntryKey::as_str).collect();
        assert_eq!(taken, ["a-1-all", "m-1-all", "z-1-all"]);
        let rejected: Vec<_> = file.rejected.iter().map(|skipped| &*skipped.key).collect();
        assert_eq!(rejected, ["huge-1-all", r#""\ud800-1-all""#, "absurd-1-all", "deep-1-all"]);
        assert!(file.rejected[2].detail.contains("larger than any bottle"), "{:?}", file.rejected[2]);
    }

    #[test]
    fn what_is_no_json_is_said_to_be_after_the_entry_before_it() {
        let good = format!(r#"{{"sha256":"{}","file_size":5}}"#, sha("a"));
        let bad = r#"{"sha256":"x","file_size":NaN}"#;
        let text = format!(r#"{{"bottles":{{"a-1-all":{good},"b-1-all":{bad},"z-1-all":{good}}}}}"#);
        let error = HashFile::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(r#"after the entry "a-1-all": "#), "{error}");
    }

    #[test]
    fn what_is_packed_or_encoded_otherwise_is_named() {
        let text = r#"{"bottles":{}}"#;
        let utf16 = |mark: &str, order: fn(u16) -> [u8; 2]| -> Vec<u8> {
            mark.encode_utf16().chain(text.encode_utf16()).flat_map(order).collect()
        };
        assert_eq!(HashFile::parse(b"\x1f\x8b\x08\0\0"), Err(HashFileError::Gzip));
        for mark in ["", "\u{feff}"] {
            assert_eq!(HashFile::parse(&utf16(mark, u16::to_le_bytes)), Err(HashFileError::Utf16));
            assert_eq!(HashFile::parse(&utf16(mark, u16::to_be_bytes)), Err(HashFileError::Utf16));
            assert_eq!(HashFile::parse(format!("{mark}{text}").as_bytes()), Ok(HashFile::default()));
        }
        assert_eq!(HashFile::parse("\u{feff} ".as_bytes()), Err(HashFileError::Empty));
    }

    #[test]
    fn of_two_entries_with_one_key_the_later_holds() {
        let (a, b) = (sha("a"), sha("b"));
        let text = format!(
            r#"{{"bottles":{{"a-1-all":{{"sha256":"{a}","file_size":1}},"a-1-all":{{"sha256":"{b}","file_size":2}}}},
               "last_updated":"x","last_updated":"y"}}"#
        );
        let file = HashFile::parse(text.as_bytes()).unwrap();
        assert_eq!(file.entries.values().map(|entry| entry.size).collect::<Vec<_>>(), [2]);
        assert_eq!(file.last_updated.as_deref(), Some("y"));
    }

    #[test]
    fn what_is_no_record_is_refused_whole() {
        assert_eq!(HashFile::parse(b" \n"), Err(HashFileError::Empty));
        assert_eq!(HashFile::parse(b"\n<!doctype html>"), Err(HashFileError::WebPage));
        let whole = format!(r#"{{"bottles":{{"a-1-all":{{"sha256":"{}","file_size":1}}}}}}"#, sha("a"));
        for text in [
            "[]",
            "7",
            "null",
            "{}",
            r#"{"bottles":[]}"#,
            r#"{"bottles":null}"#,
            "not json",
            "{\"bottles\":{}} x",
        ] {
            assert!(matches!(HashFile::parse(text.as_bytes()), Err(HashFileError::Malformed(_))), "{text}");
        }
        for cut in 1..whole.len() {
            assert!(HashFile::parse(&whole.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        assert!(HashFile::parse(br#"{"bottles":{}}"#).unwrap().entries.is_empty());
    }
}
