//! The elements of `formula.json`, in the shape and size of the real ones.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use crate::catalogue::FormulaSpec;
use crate::random::{commit, mix_text};
use crate::tap::Bottled;

/// The catalogue's array: an element a formula, then `raw` as it is.
pub(crate) fn catalogue<'a>(formulae: impl Iterator<Item = Bottled<'a>>, raw: &[Value]) -> Vec<u8> {
    let mut out = vec![b'['];
    let mut append = |element: &dyn Fn(&mut Vec<u8>) -> serde_json::Result<()>| {
        if out.len() > 1 {
            out.push(b',');
        }
        // Writing plain values to memory can't fail.
        element(&mut out).unwrap_or_default();
    };
    for formula in formulae {
        let element = element(&formula);
        append(&|out| serde_json::to_writer(out, &element));
    }
    for value in raw {
        append(&|out| serde_json::to_writer(out, value));
    }
    out.push(b']');
    out
}

/// An object whose fields keep their order.
struct Fields(Vec<(&'static str, Value)>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn element(bottled: &Bottled<'_>) -> Fields {
    let FormulaSpec { name, version, revision, dependencies, .. } = bottled.spec;
    let number = mix_text(&[name, version]);
    let source = format!("https://downloads.example.org/{name}/{name}-{version}.tar.xz");
    let checksum = format!("{}{}", commit(number), &commit(!number)[..24]);
    let path = format!("Formula/{}/{name}.rb", name.get(..1).unwrap_or("x"));
    let versioned = versioned_formulae(name);
    Fields(vec![
        ("name", json!(name)),
        ("full_name", json!(bottled.full_name())),
        ("tap", json!(bottled.tap.name)),
        ("oldnames", json!([])),
        ("aliases", json!([])),
        ("versioned_formulae", versioned),
        ("desc", json!(format!("Stand-in for {name}, with bottles of computed bytes"))),
        ("license", json!("Apache-2.0 OR MIT")),
        ("homepage", json!(format!("https://www.example.org/{name}/"))),
        ("versions", json!({"stable": version, "head": "HEAD", "bottle": !bottled.spec.bottles.is_empty()})),
        (
            "urls",
            json!({
                "stable": {
                    "url": source, "tag": null, "revision": null, "using": null, "checksum": checksum,
                },
                "head": {
                    "url": format!("https://git.example.org/{name}.git"), "branch": "main", "using": null,
                },
            }),
        ),
        ("revision", json!(revision)),
        ("version_scheme", json!(0)),
        ("compatibility_version", Value::Null),
        ("autobump", json!(true)),
        ("no_autobump_message", Value::Null),
        ("skip_livecheck", json!(false)),
        ("bottle", bottle(bottled)),
        ("pour_bottle_only_if", Value::Null),
        ("keg_only", json!(false)),
        ("keg_only_reason", Value::Null),
        ("options", json!([])),
        ("build_dependencies", json!(["cmake", "ninja", "pkgconf"])),
        ("dependencies", json!(dependencies)),
        ("test_dependencies", json!([])),
        ("recommended_dependencies", json!([])),
        ("optional_dependencies", json!([])),
        ("uses_from_macos", json!(bottled.spec.uses_from_macos)),
        ("uses_from_macos_bounds", json!(bottled.spec.uses_from_macos_bounds)),
        (
            "requirements",
            json!([{
                "name": "xcode", "cask": null, "download": null, "version": null,
                "contexts": ["build"], "specs": ["stable"],
            }]),
        ),
        ("conflicts_with", json!([])),
        ("conflicts_with_reasons", json!([])),
        ("link_overwrite", json!([])),
        ("caveats", json!(caveats(name))),
        ("installed", json!([])),
        ("linked_keg", Value::Null),
        ("pinned", json!(false)),
        ("outdated", json!(false)),
        ("deprecated", json!(false)),
        ("deprecation_date", Value::Null),
        ("deprecation_reason", Value::Null),
        ("deprecation_replacement_formula", Value::Null),
        ("deprecation_replacement_cask", Value::Null),
        ("disabled", json!(false)),
        ("disable_date", Value::Null),
        ("disable_reason", Value::Null),
        ("disable_replacement_formula", Value::Null),
        ("disable_replacement_cask", Value::Null),
        ("post_install_defined", json!(number.is_multiple_of(9))),
        ("service", Value::Null),
        ("tap_git_head", json!(commit(0))),
        ("ruby_source_path", json!(path)),
        ("ruby_source_checksum", json!({"sha256": checksum})),
        ("head_dependencies", head_dependencies(dependencies)),
        ("variations", variations(bottled.spec)),
        ("executables", json!([name, format!("{name}-config")])),
    ])
}

fn bottle(bottled: &Bottled<'_>) -> Value {
    if bottled.spec.bottles.is_empty() {
        return json!({});
    }
    let files: Map<String, Value> = bottled
        .bottles()
        .map(|(bottle, digest)| {
            let file = json!({
                "cellar": cellar(&bottle.tag, bottle.content),
                "url": bottled.url(&bottle.tag, digest),
                "sha256": hex::encode(digest),
            });
            (bottle.tag.clone(), file)
        })
        .collect();
    let root_url = &bottled.tap.root_url;
    json!({"stable": {"rebuild": bottled.spec.rebuild, "root_url": root_url, "files": files}})
}

/// Where the bottle may be unpacked: anywhere, anywhere as it is, or one place.
fn cellar(tag: &str, content: u64) -> &'static str {
    match content % 4 {
        _ if tag == "all" => ":any_skip_relocation",
        0 if tag.ends_with("linux") => "/home/linuxbrew/.linuxbrew/Cellar",
        0 if tag.starts_with("arm64_") => "/opt/homebrew/Cellar",
        0 => "/usr/local/Cellar",
        1 => ":any_skip_relocation",
        _ => ":any",
    }
}

fn variations(spec: &FormulaSpec) -> Value {
    let tags = spec.variations.iter();
    tags.map(|(tag, names)| (tag.clone(), json!({"dependencies": names}))).collect::<Map<_, _>>().into()
}

fn versioned_formulae(name: &str) -> Value {
    match name.split_once('@') {
        Some((base, _)) => json!([format!("{base}@1")]),
        None => json!([]),
    }
}

fn head_dependencies(dependencies: &[String]) -> Value {
    json!({
        "build_dependencies": ["autoconf", "automake", "cmake", "libtool", "ninja", "pkgconf"],
        "dependencies": dependencies,
        "test_dependencies": [],
        "recommended_dependencies": [],
        "optional_dependencies": [],
        "uses_from_macos": [],
        "uses_from_macos_bounds": [],
    })
}

fn caveats(name: &str) -> String {
    format!(
        "Bash completion has been installed to:\n  $HOMEBREW_PREFIX/etc/bash_completion.d\n\n\
         To use {name} from another build, add its \"libexec/bin\" to your PATH:\n  \
         PATH=\"$HOMEBREW_PREFIX/opt/{name}/libexec/bin:$PATH\"\n"
    )
}
