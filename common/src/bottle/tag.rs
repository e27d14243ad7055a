//! Bottle tags: the platform that one archive is for.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{InvalidName, serde_as_text};

/// The platform of one bottle, as Homebrew spells it (`arm64_tahoe`, `all`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BottleTag {
    /// One archive for every platform.
    All,
    /// `x86_64_linux` or `arm64_linux`.
    Linux(Arch),
    /// A macOS release on one architecture.
    Mac {
        /// The processor.
        arch: Arch,
        /// The macOS release.
        release: MacRelease,
        /// Whether Intel is spelled out (`x86_64_sierra`): some taps do.
        spelled_out: bool,
    },
    /// A tag that this version doesn't know (a macOS of the future): it matches
    /// itself alone.
    Other(Arc<str>),
}

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit ARM: Apple silicon, or Linux.
    Arm64,
    /// 64-bit Intel.
    X86_64,
}

/// A macOS release, oldest first, so that a newer one compares greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they are Apple's own names")]
pub enum MacRelease {
    Yosemite,
    ElCapitan,
    Sierra,
    HighSierra,
    Mojave,
    Catalina,
    BigSur,
    Monterey,
    Ventura,
    Sonoma,
    Sequoia,
    Tahoe,
    GoldenGate,
}

impl BottleTag {
    /// The bottle that a client on this tag takes from those `available`.
    ///
    /// Homebrew's order (`utils/bottles.rb`): the exact tag, then `all`, then
    /// the newest older macOS of the same architecture.
    pub fn choose<'a>(&self, available: impl IntoIterator<Item = &'a BottleTag>) -> Option<&'a BottleTag> {
        available
            .into_iter()
            .filter_map(|tag| Some((self.preference(tag)?, tag)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, tag)| tag)
    }

    /// Whether a client on this tag runs Linux.
    pub fn is_linux(&self) -> bool {
        matches!(self, Self::Linux(_))
    }

    /// The macOS release of this tag, if it is one.
    pub fn mac_release(&self) -> Option<MacRelease> {
        match self {
            Self::Mac { release, .. } => Some(*release),
            _ => None,
        }
    }

    /// How well a bottle tagged `bottle` suits a client on this tag; least is best.
    fn preference(&self, bottle: &BottleTag) -> Option<(u8, Reverse<Option<MacRelease>>)> {
        match (self, bottle) {
            (client, bottle) if client == bottle => Some((0, Reverse(None))),
            // `sonoma` and `x86_64_sonoma` are one platform.
            (Self::Mac { arch: a, release: x, .. }, Self::Mac { arch: b, release: y, .. })
                if a == b && x == y =>
            {
                Some((1, Reverse(None)))
            }
            (_, Self::All) => Some((2, Reverse(None))),
            (Self::Mac { arch: a, release: x, .. }, Self::Mac { arch: b, release: y, .. })
                if a == b && y < x =>
            {
                Some((3, Reverse(Some(*y))))
            }
            _ => None,
        }
    }
}

impl FromStr for BottleTag {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| Err(InvalidName::new("bottle tag", text, why));
        match text {
            "all" => return Ok(Self::All),
            "x86_64_linux" => return Ok(Self::Linux(Arch::X86_64)),
            "arm64_linux" => return Ok(Self::Linux(Arch::Arm64)),
            _ => {}
        }
        let (arch, spelled_out, rest) = match (text.strip_prefix("arm64_"), text.strip_prefix("x86_64_")) {
            (Some(rest), _) => (Arch::Arm64, true, rest),
            (_, Some(rest)) => (Arch::X86_64, true, rest),
            _ => (Arch::X86_64, false, text),
        };
        if let Some((release, _)) = MAC_RELEASES.iter().find(|(_, name)| *name == rest) {
            return Ok(Self::Mac { arch, release: *release, spelled_out });
        }
        if text.is_empty() || text.len() > 64 {
            return refuse("it takes 1 to 64 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return refuse("it holds only lower-case letters, digits and _");
        }
        Ok(Self::Other(text.into()))
    }
}

impl fmt::Display for BottleTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Linux(Arch::X86_64) => f.write_str("x86_64_linux"),
            Self::Linux(Arch::Arm64) => f.write_str("arm64_linux"),
            Self::Mac { arch, release, spelled_out } => {
                match (arch, spelled_out) {
                    (Arch::Arm64, _) => f.write_str("arm64_")?,
                    (Arch::X86_64, true) => f.write_str("x86_64_")?,
                    (Arch::X86_64, false) => {}
                }
                fmt::Display::fmt(release, f)
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for BottleTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(BottleTag);

impl FromStr for MacRelease {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        MAC_RELEASES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(release, _)| *release)
            .ok_or_else(|| InvalidName::new("macOS release", text, "it is none that is known"))
    }
}

impl fmt::Display for MacRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MAC_RELEASES.iter().find(|(release, _)| release == self).map_or("", |(_, name)| name))
    }
}

const MAC_RELEASES: [(MacRelease, &str); 13] = [
    (MacRelease::GoldenGate, "golden_gate"),
    (MacRelease::Tahoe, "tahoe"),
    (MacRelease::Sequoia, "sequoia"),
    (MacRelease::Sonoma, "sonoma"),
    (MacRelease::Ventura, "ventura"),
    (MacRelease::Monterey, "monterey"),
    (MacRelease::BigSur, "big_sur"),
    (MacRelease::Catalina, "catalina"),
    (MacRelease::Mojave, "mojave"),
    (MacRelease::HighSierra, "high_sierra"),
    (MacRelease::Sierra, "sierra"),
    (MacRelease::ElCapitan, "el_capitan"),
    (MacRelease::Yosemite, "yosemite"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> BottleTag {
        text.parse().unwrap()
    }

    fn chosen(client: &str, available: &[&str]) -> Option<String> {
        let available: Vec<_> = available.iter().map(|text| tag(text)).collect();
        tag(client).choose(&available).map(ToString::to_string)
    }

    #[test]
    fn every_tag_reads_back_as_it_was_written() {
        for text in [
            "all",
            "arm64_linux",
            "x86_64_linux",
            "arm64_golden_gate",
            "tahoe",
            "arm64_big_sur",
            "x86_64_sierra",
            "high_sierra",
            "arm64_next_one",
        ] {
            assert_eq!(tag(text).to_string(), text);
        }
        for text in ["", "a/b", "..", "Tahoe", "a b", &"x".repeat(65)] {
            assert!(text.parse::<BottleTag>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn the_exact_tag_comes_first_then_all_then_the_newest_older_release() {
        assert_eq!(
            chosen("arm64_tahoe", &["arm64_sonoma", "all", "arm64_tahoe"]).as_deref(),
            Some("arm64_tahoe")
        );
        assert_eq!(chosen("arm64_tahoe", &["arm64_sequoia", "all"]).as_deref(), Some("all"));
        assert_eq!(
            chosen("arm64_tahoe", &["arm64_ventura", "arm64_sequoia", "arm64_sonoma"]).as_deref(),
            Some("arm64_sequoia")
        );
    }

    #[test]
    fn a_fallback_never_crosses_architecture_system_or_time() {
        assert_eq!(chosen("arm64_sonoma", &["sonoma", "ventura", "arm64_tahoe", "arm64_linux"]), None);
        assert_eq!(chosen("sonoma", &["arm64_sonoma", "tahoe", "x86_64_linux"]), None);
        assert_eq!(chosen("x86_64_linux", &["arm64_linux", "sonoma"]), None);
        assert_eq!(chosen("x86_64_linux", &["arm64_linux", "all"]).as_deref(), Some("all"));
    }

    #[test]
    fn a_spelled_out_intel_tag_is_the_same_platform() {
        assert_eq!(chosen("sierra", &["x86_64_sierra"]).as_deref(), Some("x86_64_sierra"));
        assert_eq!(chosen("sonoma", &["x86_64_mojave", "catalina"]).as_deref(), Some("catalina"));
    }

    #[test]
    fn an_unknown_tag_matches_itself_alone() {
        assert_eq!(chosen("arm64_next", &["arm64_tahoe", "arm64_next"]).as_deref(), Some("arm64_next"));
        assert_eq!(chosen("arm64_next", &["arm64_tahoe"]), None);
        assert_eq!(chosen("arm64_tahoe", &["arm64_next"]), None);
    }
}
