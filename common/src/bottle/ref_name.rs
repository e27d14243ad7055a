//! What an image index says of each of its bottles.

use super::{BottleTag, FormulaName, InvalidName, ObjectKey};

/// What one entry of an image index says of its bottle:
/// `version[_revision].<tag>[.<rebuild>]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefName {
    pub(crate) tag: BottleTag,
    /// `version[_revision]`
    pub(crate) version: String,
    pub(crate) rebuild: Option<u32>,
}

impl RefName {
    /// Reads `version[_revision].<tag>[.<rebuild>]`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (rest, last) = text.rsplit_once('.')?;
        let (rest, tag, rebuild) = match last.parse() {
            Ok(rebuild) => {
                let (rest, tag) = rest.rsplit_once('.')?;
                (rest, tag, Some(rebuild))
            }
            Err(_) => (rest, last, None),
        };
        let version = (!rest.is_empty()).then(|| rest.to_owned())?;
        Some(Self { tag: tag.parse().ok()?, version, rebuild })
    }

    /// The flat name of the bottle.
    pub(crate) fn flat_key(&self, formula: &FormulaName) -> Result<ObjectKey, InvalidName> {
        let (name, Self { tag, version, .. }) = (formula.short(), self);
        let rebuild = self.rebuild.map(|rebuild| format!(".{rebuild}")).unwrap_or_default();
        ObjectKey::flat(&format!("{name}-{version}.{tag}.bottle{rebuild}.tar.gz"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_tag_and_flat_name() {
        let flat = |name: &str, text: &str| {
            let key = RefName::parse(text)?.flat_key(&name.parse().unwrap()).unwrap();
            Some(key.to_string())
        };
        for (name, text, expected) in [
            ("wget", "1.25.0.arm64_tahoe", "wget-1.25.0.arm64_tahoe.bottle.tar.gz"),
            ("foo@1.2", "1.2_1.x86_64_linux.3", "foo@1.2-1.2_1.x86_64_linux.bottle.3.tar.gz"),
            ("bar", "2024-05-01.all.1", "bar-2024-05-01.all.bottle.1.tar.gz"),
        ] {
            assert_eq!(flat(name, text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "all", "1.0", ".all", "1.0.Bad Tag", "all.1"] {
            assert_eq!(RefName::parse(text), None, "{text:?} was taken");
        }
    }
}
