//! Platforms as bottle tags name them, and what a client on one of them takes.

use serde_json::Value;

/// Newest first.
pub(crate) const MACOS: [(&str, &str); 8] = [
    ("golden_gate", "27"),
    ("tahoe", "26"),
    ("sequoia", "15"),
    ("sonoma", "14"),
    ("ventura", "13"),
    ("monterey", "12"),
    ("big_sur", "11"),
    ("catalina", "10.15"),
];

/// The tags of the bottles that a client with this tag can take, the best first: its
/// own, else `all`, else the newest older macOS of its architecture.
pub(crate) fn candidates(tag: &str) -> impl Iterator<Item = String> {
    let (prefix, name) = tag.strip_prefix("arm64_").map_or(("", tag), |name| ("arm64_", name));
    let older = MACOS.into_iter().skip_while(move |(macos, _)| *macos != name).skip(1);
    [tag.to_owned(), "all".to_owned()]
        .into_iter()
        .chain(older.map(move |(name, _)| format!("{prefix}{name}")))
}

/// The formulae that a bottle needs when it runs on a platform: those declared, and of
/// those that macOS brings along the ones that this platform doesn't. What is needed for
/// building alone is an object with a context, and left out. `bounds` is parallel to
/// `system`.
pub(crate) fn runtime_dependencies<'a>(
    declared: &'a [String],
    system: &'a [Value],
    bounds: &'a [Value],
    tag: &str,
) -> impl Iterator<Item = &'a str> {
    let age = macos_age(tag);
    let missing = move |at: usize| match age {
        None => true,
        Some(age) => {
            let since = bounds.get(at).and_then(|bound| bound["since"].as_str());
            since.and_then(macos_age).is_some_and(|since| age > since)
        }
    };
    let system = system.iter().enumerate().filter(move |(at, _)| missing(*at));
    declared.iter().map(String::as_str).chain(system.filter_map(|(_, used)| used.as_str()))
}

/// `all` counts as Linux here: its bottles are built there.
pub(crate) fn is_linux(tag: &str) -> bool {
    macos(tag).is_none()
}

pub(crate) fn architecture(tag: &str) -> &'static str {
    if tag.starts_with("arm64_") { "arm64" } else { "amd64" }
}

/// The name and the number of a tag's macOS.
pub(crate) fn macos(tag: &str) -> Option<(&'static str, &'static str)> {
    macos_age(tag).map(|age| MACOS[age])
}

/// How many macOS are newer than that of a tag.
fn macos_age(tag: &str) -> Option<usize> {
    let name = tag.strip_prefix("arm64_").unwrap_or(tag);
    MACOS.iter().position(|(macos, _)| *macos == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_takes_its_own_then_all_then_older_macos() {
        let of = |tag| candidates(tag).collect::<Vec<_>>();
        assert_eq!(
            of("arm64_sonoma"),
            ["arm64_sonoma", "all", "arm64_ventura", "arm64_monterey", "arm64_big_sur", "arm64_catalina"]
        );
        assert_eq!(of("big_sur"), ["big_sur", "all", "catalina"]);
        assert_eq!(of("x86_64_linux"), ["x86_64_linux", "all"]);
        assert_eq!(of("arm64_linux"), ["arm64_linux", "all"]);
    }

    #[test]
    fn what_macos_brings_along_is_needed_on_linux_and_on_older_macos() {
        let declared = ["own".to_owned()];
        let system = [json!({"tool": "build"}), json!("always"), json!("lately")];
        let bounds = [json!({}), json!({}), json!({"since": "sonoma"})];
        let on = |tag| runtime_dependencies(&declared, &system, &bounds, tag).collect::<Vec<_>>();
        assert_eq!(on("x86_64_linux"), ["own", "always", "lately"]);
        assert_eq!(on("arm64_ventura"), ["own", "lately"]);
        assert_eq!(on("sonoma"), ["own"]);
        assert_eq!(on("arm64_tahoe"), ["own"]);
    }
}
