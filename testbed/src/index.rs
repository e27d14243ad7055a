//! The image index of a formula: one entry a bottle.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use crate::platform::{architecture, is_linux, macos};
use crate::published::Published;
use crate::random::{commit, mix_text};
use crate::tap::Bottled;

/// The media type of an index, which a client must name in `Accept`.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

const CREATED: &str = "2026-09-14T08:21:07+00:00";

/// What an index leaves out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Omit {
    /// The `sh.brew.bottle.size` annotations.
    pub(crate) sizes: bool,
    /// The entry of this tag.
    pub(crate) tag: Option<String>,
}

/// The body of the index of one formula.
pub(crate) fn body(published: &Published, bottled: &Bottled<'_>, omit: &Omit) -> Vec<u8> {
    let spec = bottled.spec;
    let manifests: Vec<Value> = bottled
        .bottles()
        .filter(|(bottle, _)| omit.tag.as_ref() != Some(&bottle.tag))
        .map(|(bottle, digest)| {
            let manifest = mix_text(&[&spec.name, &spec.image_tag(), &bottle.tag]);
            let mut annotations = BTreeMap::from([
                ("org.opencontainers.image.ref.name", spec.reference(&bottle.tag)),
                ("sh.brew.bottle.digest", hex::encode(digest)),
                ("sh.brew.bottle.installed_size", (bottle.size * 3).to_string()),
                ("sh.brew.path_exec_files", format!("bin/{}", spec.name)),
                ("sh.brew.tab", tab(published, bottled, &bottle.tag).to_string()),
            ]);
            if !omit.sizes {
                annotations.insert("sh.brew.bottle.size", bottle.size.to_string());
            }
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{}{}", commit(manifest), &commit(!manifest)[..24]),
                "size": 2000 + manifest % 1000,
                "platform": platform(&bottle.tag),
                "annotations": annotations,
            })
        })
        .collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE,
        "manifests": manifests,
        "annotations": annotations(bottled),
    });
    index.to_string().into_bytes()
}

fn annotations(bottled: &Bottled<'_>) -> Value {
    let (spec, tap) = (bottled.spec, &bottled.tap.name);
    let (user, repository) = tap.split_once('/').unwrap_or((tap, "tap"));
    let name = &spec.name;
    let revision = commit(mix_text(&[name, &spec.image_tag()]));
    let letter = name.get(..1).unwrap_or("x");
    json!({
        "com.github.package.type": "homebrew_bottle",
        "org.opencontainers.image.created": CREATED,
        "org.opencontainers.image.description":
            format!("Stand-in for {name}, with bottles of computed bytes"),
        "org.opencontainers.image.documentation": format!("https://formulae.brew.sh/formula/{name}"),
        "org.opencontainers.image.license": "Apache-2.0 OR MIT",
        "org.opencontainers.image.ref.name": spec.image_tag(),
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.source":
            format!("https://github.com/{user}/homebrew-{repository}/blob/{revision}/Formula/{letter}/{name}.rb"),
        "org.opencontainers.image.title": format!("{tap}/{name}"),
        "org.opencontainers.image.url": format!("https://www.example.org/{name}/"),
        "org.opencontainers.image.vendor": user,
        "org.opencontainers.image.version": spec.package_version(),
    })
}

fn platform(tag: &str) -> Value {
    let (architecture, os_version) = match (architecture(tag), macos(tag)) {
        (architecture, Some((_, number))) => (architecture, format!("macOS {number}")),
        (architecture, None) => (architecture, "Ubuntu 22.04.5 LTS".to_owned()),
    };
    let os = if is_linux(tag) { "linux" } else { "darwin" };
    json!({"architecture": architecture, "os": os, "os.version": os_version})
}

/// What brew writes into a keg: how the bottle was built, and what it needs.
fn tab(published: &Published, bottled: &Bottled<'_>, tag: &str) -> Value {
    let direct: HashSet<&str> = bottled.spec.runtime_dependencies(tag).collect();
    let own = bottled.full_name();
    let mut reached: Vec<&str> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::from([own.as_str()]);
    let mut open = vec![bottled.spec];
    while let Some(formula) = open.pop() {
        for name in formula.runtime_dependencies(tag) {
            if seen.insert(name) {
                reached.push(name);
                open.extend(published.formula(name).map(|bottled| bottled.spec));
            }
        }
    }
    reached.sort_unstable();
    let runtime: Vec<Value> = reached
        .into_iter()
        .filter_map(|name| Some((name, published.formula(name)?.spec)))
        .map(|(name, spec)| {
            json!({
                "full_name": name,
                "version": spec.version,
                "revision": spec.revision,
                "bottle_rebuild": spec.rebuild,
                "pkg_version": spec.package_version(),
                "declared_directly": direct.contains(name),
            })
        })
        .collect();
    json!({
        "homebrew_version": "6.0.18",
        "changed_files": [],
        "source_modified_time": 1_789_000_000,
        "compiler": if is_linux(tag) { "gcc" } else { "clang" },
        "runtime_dependencies": runtime,
        "arch": if architecture(tag) == "arm64" { "arm64" } else { "x86_64" },
        "built_on": built_on(tag),
    })
}

fn built_on(tag: &str) -> Value {
    match macos(tag) {
        Some((name, number)) => json!({
            "os": "Macintosh", "os_version": format!("macOS {number}"), "cpu_family": "dunno",
            "xcode": "26.0.1", "clt": "26.0.0.0.1", "preferred_perl": "5.34", "codename": name,
        }),
        None => json!({
            "os": "Linux", "os_version": "Ubuntu 22.04.5 LTS", "cpu_family": "dunno",
            "glibc_version": "2.35", "oldest_cpu_family": "core2",
        }),
    }
}
