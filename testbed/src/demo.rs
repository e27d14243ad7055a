//! The demo's catalogue: 40 formulae small enough to mirror in seconds, with each
//! oddity of the real catalogue at least once.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::catalogue::{FormulaSpec, Spec};
use crate::random::{mix_all, mix_text};

/// The one bottle above every size threshold: 24 MiB.
const LARGE: (&str, &str, u64) = ("llvm@21", "x86_64_linux", 24 * 1024 * 1024);

/// Two bottles of the demo that can be made to fail, as formula and tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// Its bytes don't match the digest that the catalogue names.
    pub wrong_hash: (String, String),
    /// The registry doesn't have it.
    pub not_found: (String, String),
}

impl Spec {
    /// 40 formulae under 60 MB: bottles of 2–400 KB and one of 24 MiB. Dependencies
    /// have no cycle, whichever platform they are taken for. The seed decides sizes and
    /// bytes; names, versions and tags stay.
    pub fn demo(seed: u64) -> Self {
        let formulae = ROWS.iter().map(|row| row.formula(seed)).collect();
        Self { seed, formulae, ..Self::default() }
    }

    /// The two bottles of [`Spec::demo`] to make fail with
    /// [`Upstream::plant`](crate::Upstream::plant). Nobody shares them; one formula
    /// depends on the second, none on the first.
    pub fn demo_planted() -> Planted {
        let bottle = |formula: &str| (formula.to_owned(), "x86_64_linux".to_owned());
        Planted { wrong_hash: bottle("tree"), not_found: bottle("oniguruma") }
    }
}

/// Platforms with a bottle.
#[derive(Clone, Copy)]
enum Tags {
    Usual,
    /// Not built for the newest macOS: clients there fall back to an older one.
    NoTahoe,
    NoArmLinux,
    LinuxOnly,
    /// One archive for all platforms.
    All,
    /// Data only: the same archive under the two newest tags.
    SameOnTwo,
}

struct Row {
    name: &'static str,
    version: &'static str,
    revision: u32,
    rebuild: u32,
    tags: Tags,
    dependencies: &'static [&'static str],
    /// `name` or `name=context`.
    uses_from_macos: &'static [&'static str],
    /// Dependencies on Linux, where they differ.
    linux: &'static [&'static str],
}

/// Each row depends on rows above it only.
const ROWS: [Row; 40] = [
    row("ca-certificates", "2026-09-09", Tags::All, &[]),
    row("docbook", "5.2", Tags::All, &[]).built(1, 0),
    row("bash-completion", "2.16.0", Tags::All, &[]),
    row("zlib", "1.3.1", Tags::Usual, &[]),
    row("bzip2", "1.0.8", Tags::Usual, &[]),
    row("lz4", "1.10.0", Tags::Usual, &[]),
    row("xz", "5.8.1", Tags::Usual, &[]),
    row("ncurses", "6.5", Tags::Usual, &[]),
    row("expat", "2.7.3", Tags::Usual, &[]),
    row("libffi", "3.5.2", Tags::Usual, &[]),
    row("m4", "1.4.20", Tags::Usual, &[]),
    row("gettext", "0.26", Tags::Usual, &[]).uses(&["ncurses"]),
    row("bison", "3.8.2", Tags::NoTahoe, &["m4"]),
    row("flex", "2.6.4", Tags::NoTahoe, &["gettext"]).built(2, 0).uses(&["bison=build", "m4"]),
    row("perl", "5.42.0", Tags::Usual, &[]).uses(&["bzip2", "expat", "zlib"]),
    row("openssl@3", "3.6.0", Tags::Usual, &["ca-certificates"]).built(1, 0).uses(&["perl=build"]),
    row("readline", "8.3.1", Tags::Usual, &[]).uses(&["ncurses"]),
    row("sqlite", "3.50.4", Tags::Usual, &["readline"]).uses(&["zlib"]),
    row("zstd", "1.5.7", Tags::Usual, &["lz4", "xz"]).built(0, 1).uses(&["zlib"]),
    row("pcre2", "10.46", Tags::Usual, &[]).uses(&["bzip2", "zlib"]),
    row("libpng", "1.6.50", Tags::Usual, &[]).uses(&["zlib"]),
    row("jpeg-turbo", "3.1.2", Tags::NoArmLinux, &[]),
    row("libtiff", "4.7.1", Tags::Usual, &["jpeg-turbo", "xz", "zstd"]).built(1, 1).uses(&["zlib"]),
    row("freetype", "2.14.1", Tags::Usual, &["libpng"]).uses(&["bzip2", "zlib"]),
    row("util-linux", "2.41.2", Tags::LinuxOnly, &["sqlite"]).uses(&["ncurses", "zlib"]),
    row("glib", "2.86.0", Tags::Usual, &["gettext", "pcre2"]).uses(&["flex=build", "libffi"]).on_linux(&[
        "gettext",
        "pcre2",
        "util-linux",
    ]),
    row("libx+one", "2.3", Tags::NoTahoe, &[]).built(1, 0),
    row("libx+two", "2.3", Tags::NoTahoe, &["libx+one"]).built(1, 0),
    row("gtk+3", "3.24.51", Tags::Usual, &["freetype", "glib", "libpng", "libtiff"])
        .built(0, 2)
        .on_linux(&["freetype", "glib", "libpng", "libtiff", "libx+one", "libx+two"]),
    row("terminal_fonts", "4.100", Tags::SameOnTwo, &[]),
    row("mpdecimal", "4.0.1", Tags::Usual, &[]),
    row("python@3.14", "3.14.0", Tags::Usual, &["mpdecimal", "openssl@3", "readline", "sqlite", "xz"])
        .built(1, 0)
        .uses(&["bzip2", "expat", "libffi", "ncurses", "zlib"]),
    row("libunistring", "1.4.1", Tags::Usual, &[]),
    row("libidn2", "2.3.8", Tags::Usual, &["gettext", "libunistring"]),
    row("wget", "1.25.0", Tags::Usual, &["gettext", "libidn2", "openssl@3"]).uses(&["zlib"]).on_linux(&[
        "gettext",
        "libidn2",
        "openssl@3",
        "util-linux",
    ]),
    row("oniguruma", "6.9.10", Tags::Usual, &[]),
    row("jq", "1.8.1", Tags::Usual, &["oniguruma"]),
    row("tree", "2.2.1", Tags::Usual, &[]),
    row("node@22", "22.20.0", Tags::NoArmLinux, &["openssl@3", "zstd"]).uses(&["python@3.14=build", "zlib"]),
    row("llvm@21", "21.1.3", Tags::Usual, &["python@3.14", "zstd"])
        .built(0, 1)
        .uses(&["libffi", "ncurses", "zlib"]),
];

const fn row(
    name: &'static str,
    version: &'static str,
    tags: Tags,
    dependencies: &'static [&'static str],
) -> Row {
    Row { name, version, revision: 0, rebuild: 0, tags, dependencies, uses_from_macos: &[], linux: &[] }
}

impl Row {
    const fn built(mut self, revision: u32, rebuild: u32) -> Self {
        self.revision = revision;
        self.rebuild = rebuild;
        self
    }

    const fn uses(mut self, names: &'static [&'static str]) -> Self {
        self.uses_from_macos = names;
        self
    }

    const fn on_linux(mut self, names: &'static [&'static str]) -> Self {
        self.linux = names;
        self
    }

    fn formula(&self, seed: u64) -> FormulaSpec {
        let mut formula = FormulaSpec::new(self.name, self.version)
            .with_revision(self.revision)
            .with_rebuild(self.rebuild)
            .with_dependencies(self.dependencies)
            .with_uses_from_macos(self.uses_from_macos.iter().map(|name| used(name)));
        for tag in self.tags.list() {
            if !self.linux.is_empty() && tag.ends_with("linux") {
                formula = formula.with_variation(tag, self.linux);
            }
            let size = size(seed, self.name, tag);
            formula = match (self.name, *tag) {
                (name, tag) if (name, tag) == (LARGE.0, LARGE.1) => formula.with_bottle(tag, LARGE.2),
                ("terminal_fonts", "arm64_tahoe" | "arm64_sequoia") => {
                    formula.with_content(tag, 51_200, 0xF0)
                }
                ("libx+one" | "libx+two", "x86_64_linux") => formula.with_content(tag, 20_480, 0xF1),
                _ => formula.with_bottle(tag, size),
            };
        }
        formula
    }
}

impl Tags {
    fn list(self) -> &'static [&'static str] {
        match self {
            Self::Usual => {
                &["arm64_tahoe", "arm64_sequoia", "arm64_sonoma", "sonoma", "arm64_linux", "x86_64_linux"]
            }
            Self::NoTahoe => &["arm64_sequoia", "arm64_sonoma", "sonoma", "arm64_linux", "x86_64_linux"],
            Self::NoArmLinux => &["arm64_tahoe", "arm64_sequoia", "arm64_sonoma", "sonoma", "x86_64_linux"],
            Self::LinuxOnly => &["arm64_linux", "x86_64_linux"],
            Self::All => &["all"],
            Self::SameOnTwo => &["arm64_tahoe", "arm64_sequoia", "x86_64_linux"],
        }
    }
}

fn used(text: &str) -> Value {
    match text.split_once('=') {
        Some((name, context)) => Map::from_iter([(name.to_owned(), json!(context))]).into(),
        None => json!(text),
    }
}

/// 2–400 KB, with as many of 4 KB as of 100 KB, as real bottles spread.
fn size(seed: u64, name: &str, tag: &str) -> u64 {
    let draw = mix_all(&[seed, mix_text(&[name, tag])]);
    let floor = 2048u64 << (draw % 7);
    floor + (draw >> 8) % floor.min(400_000 - floor)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::catalogue::BottleSpec;

    fn bottles(spec: &Spec) -> Vec<(&FormulaSpec, &BottleSpec)> {
        spec.formulae.iter().flat_map(|f| f.bottles.iter().map(move |b| (f, b))).collect()
    }

    #[test]
    fn sizes_are_small_but_for_one_bottle() {
        for seed in 0..20 {
            let spec = Spec::demo(seed);
            let (large, small): (Vec<u64>, Vec<u64>) =
                bottles(&spec).iter().map(|(_, bottle)| bottle.size).partition(|size| *size > 8 << 20);
            assert_eq!(large, [24 << 20]);
            assert!(small.iter().all(|size| (2_000..=400_000).contains(size)));
            assert!(large.iter().chain(&small).sum::<u64>() < 60_000_000);
            assert!(small.len() > 180);
        }
    }

    #[test]
    fn dependencies_name_earlier_formulae_so_there_is_no_cycle() {
        let mut earlier: HashSet<&str> = HashSet::new();
        for row in &ROWS {
            let used = row.uses_from_macos.iter().map(|name| name.split('=').next().unwrap());
            for name in row.dependencies.iter().chain(row.linux).copied().chain(used) {
                assert!(earlier.contains(name), "{} needs {name}", row.name);
            }
            assert!(earlier.insert(row.name), "{} twice", row.name);
        }
    }

    #[test]
    fn each_oddity_is_there() {
        let spec = Spec::demo(1);
        let any = |test: &dyn Fn(&FormulaSpec) -> bool| spec.formulae.iter().any(test);
        let has = |formula: &FormulaSpec, tag: &str| formula.bottles.iter().any(|b| b.tag == tag);
        assert!(any(&|f| f.name == "openssl@3" && f.image_tag() == "3.6.0_1"));
        assert!(any(&|f| f.name == "zstd" && f.image_tag() == "1.5.7-1"));
        assert!(any(&|f| f.image_tag() == "4.7.1_1-1"));
        assert!(any(&|f| has(f, "all") && f.bottles.len() == 1));
        assert!(any(&|f| has(f, "arm64_sequoia") && !has(f, "arm64_tahoe")));
        assert!(any(&|f| f.variations.contains_key("x86_64_linux")));
        assert!(any(&|f| f.uses_from_macos.iter().any(Value::is_object)));
        assert!(any(&|f| f.uses_from_macos.iter().any(Value::is_string)));
    }

    #[test]
    fn two_contents_are_shared_and_the_planted_ones_are_not() {
        let spec = Spec::demo(1);
        let mut owners: HashMap<(u64, u64), Vec<(&str, &str)>> = HashMap::new();
        for (formula, bottle) in bottles(&spec) {
            let owner = (formula.name.as_str(), bottle.tag.as_str());
            owners.entry((bottle.content, bottle.size)).or_default().push(owner);
        }
        let mut shared: Vec<_> = owners.values().filter(|owners| owners.len() > 1).collect();
        shared.sort();
        assert_eq!(
            shared,
            [
                &vec![("libx+one", "x86_64_linux"), ("libx+two", "x86_64_linux")],
                &vec![("terminal_fonts", "arm64_tahoe"), ("terminal_fonts", "arm64_sequoia")],
            ]
        );
        let Planted { wrong_hash, not_found } = Spec::demo_planted();
        for (name, tag) in [&wrong_hash, &not_found] {
            assert!(owners.values().any(|owners| *owners == [(name.as_str(), tag.as_str())]));
            let users = spec.formulae.iter().filter(|f| f.dependencies.contains(name));
            assert!(users.count() <= 2);
        }
    }
}
