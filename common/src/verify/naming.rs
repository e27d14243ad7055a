//! Names that are read back from a mirror's keys.

use crate::bottle::{BottleTag, FormulaName, ImagePath, ImageTag, InvalidName, ObjectKey, Origin, RootUrl};

/// What the images of plain file hosts begin with.
const FILES: &str = "v2/_files/";

/// Where brew's own Ruby is: it is pinned by digest, beside what an index lists.
const PORTABLE_RUBY: &str = "v2/homebrew/core/portable-ruby";

/// The image tag of a bottle that no index names.
const PINNED: &str = "pinned";

/// The registry that a rebuilt manifest names.
const REGISTRY: &str = "https://ghcr.io";

/// The bottle tag that a flat name says.
pub(super) fn flat_tag(key: &ObjectKey) -> Option<BottleTag> {
    let name = key.as_str().strip_suffix(".tar.gz")?;
    let (name, rebuild) = name.rsplit_once(".bottle")?;
    let is_rebuild = rebuild.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok());
    if !rebuild.is_empty() && !is_rebuild {
        return None;
    }
    name.rsplit_once('.')?.1.parse().ok()
}

/// The image of a bottle's key.
pub(super) fn image_of(key: &ObjectKey) -> Option<ImagePath> {
    key.as_str().rsplit_once("/blobs/")?.0.parse().ok()
}

/// Whether the bottles of an image are files of a plain host.
pub(super) fn is_of_file_host(image: &ImagePath) -> bool {
    image.as_str().starts_with(FILES)
}

/// Whether an image may hold bottles that no index names.
pub(super) fn may_do_without_index(image: &ImagePath) -> bool {
    is_of_file_host(image) || image.as_str() == PORTABLE_RUBY
}

/// The image tag of a bottle that no index names.
pub(super) fn pinned() -> Result<ImageTag, InvalidName> {
    PINNED.parse()
}

/// Where an image came from, as far as its path says.
pub(super) fn origin(image: &ImagePath) -> Result<Origin, InvalidName> {
    match image.as_str().strip_prefix(FILES).and_then(|rest| rest.split('/').next()) {
        Some(host) => format!("https://{host}").parse(),
        None => REGISTRY.parse(),
    }
}

/// The formula of an image: by its index's title if that leads to this image, else
/// by the path, which tells `x@1` from `x/1` no more.
pub(super) fn formula(image: &ImagePath, title: Option<&str>) -> Result<FormulaName, InvalidName> {
    if let Some(name) = title.and_then(|title| titled(image, title)) {
        return Ok(name);
    }
    let mut parts: Vec<&str> = image.as_str().split('/').skip(1).collect();
    if is_of_file_host(image) {
        // Where the host's folders end and the name begins can't be seen.
        let versioned = parts.len() > 3 && parts[parts.len() - 1].starts_with(|c: char| c.is_ascii_digit());
        let name = parts.split_off(parts.len() - if versioned { 2 } else { 1 });
        return name.join("@").parse();
    }
    let name = parts.split_off(parts.len().min(2)).join("@");
    match parts[..] {
        ["homebrew", "core"] => name.parse(),
        [user, tap] => format!("{user}/{tap}/{name}").parse(),
        _ => name.parse(),
    }
}

/// `homebrew/core/wget`, if `wget` of homebrew/core has this image.
fn titled(image: &ImagePath, title: &str) -> Option<FormulaName> {
    let full: FormulaName = title.parse().ok()?;
    let (tap, short) = title.rsplit_once('/')?;
    let root: RootUrl = format!("{REGISTRY}/v2/{tap}").parse().ok()?;
    if root.image(&full) != *image {
        return None;
    }
    if tap == "homebrew/core" { short.parse().ok() } else { Some(full) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(image: &str, title: Option<&str>) -> String {
        formula(&image.parse().unwrap(), title).unwrap().to_string()
    }

    #[test]
    fn a_formula_is_named_by_its_title_if_that_is_its_own() {
        let core = "v2/homebrew/core/openssl/3";
        assert_eq!(named(core, Some("homebrew/core/openssl@3")), "openssl@3");
        assert_eq!(named("v2/homebrew/core/gtkx3", Some("homebrew/core/gtk+3")), "gtk+3");
        assert_eq!(
            named("v2/brewsci/bio/meme/4.11.2", Some("brewsci/bio/meme@4.11.2")),
            "brewsci/bio/meme@4.11.2"
        );
        for other in [None, Some("homebrew/core/wget"), Some("nonsense"), Some("../x/y")] {
            assert_eq!(named(core, other), "openssl@3", "{other:?}");
            assert_eq!(named("v2/brewsci/bio/abacas", other), "brewsci/bio/abacas", "{other:?}");
        }
        assert_eq!(named("v2/_files/bottles.example.com/tools/foo", None), "foo");
        assert_eq!(named("v2/_files/bottles.example.com/tools/foo/1.2", None), "foo@1.2");
        assert_eq!(named("v2/_files/bottles.example.com/foo", None), "foo");
    }

    #[test]
    fn a_flat_name_says_its_tag() {
        let tag = |key: &str| flat_tag(&key.parse().unwrap()).map(|tag| tag.to_string());
        assert_eq!(tag("taps/h/x/foo++-1.0_1.x86_64_linux.bottle.2.tar.gz").as_deref(), Some("x86_64_linux"));
        assert_eq!(tag("foo-1.0.all.bottle.tar.gz").as_deref(), Some("all"));
        for other in ["foo-1.0.all.tar.gz", "foo-1.0.all.bottle.x.tar.gz", "foo.bottle.tar.gz", "foo"] {
            assert_eq!(tag(other), None, "{other}");
        }
    }

    #[test]
    fn an_image_leads_back_to_where_it_came_from() {
        let origin = |image: &str| origin(&image.parse().unwrap()).unwrap().to_string();
        assert_eq!(origin("v2/homebrew/core/wget"), "https://ghcr.io");
        assert_eq!(origin("v2/_files/bottles.example.com/tools/foo"), "https://bottles.example.com");
    }
}
