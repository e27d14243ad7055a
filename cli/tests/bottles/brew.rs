//! A scripted `brew` against the mirror alone, asking what the real one asks: every formula
//! on every platform.

use std::path::Path;

use testbed::brew::{Brew, BrewError};
use testbed::{FormulaSpec, Spec, TapSpec, Upstream};
use tokio::runtime::{Builder, Runtime};

use crate::aws::Aws;
use crate::harness::{Mirror, bare, write};
use crate::server::Server;

/// Platforms with bottles of their own, and those that fall back: to `all`, and to an
/// older macOS.
const CLIENTS: [&str; 6] =
    ["arm64_tahoe", "arm64_sequoia", "arm64_sonoma", "sonoma", "x86_64_linux", "arm64_linux"];

/// The testbed's selection, and Ruby, which its catalogue doesn't list.
fn spec() -> Spec {
    let mut spec = Spec::demo(1);
    spec.formulae.push(FormulaSpec::portable_ruby("4.0.1"));
    spec
}

/// A selection of all that these clients need, under flat names too.
fn selection(folder: &Path, upstream: &Upstream) -> String {
    let tags = CLIENTS.map(|tag| format!("'{tag}'")).join(", ");
    let pins: Vec<String> =
        upstream.unlisted().iter().map(|bottle| format!("{} = '{}'", bottle.tag, bottle.digest)).collect();
    let ruby: Vec<String> = upstream.unlisted().iter().map(|bottle| format!("'{}'", bottle.tag)).collect();
    let text = format!(
        "tags = [{tags}]\nlayout = 'flat'\nportable_ruby = [{}]\n[portable_ruby_pins]\n{}\n",
        ruby.join(", "),
        pins.join("\n")
    );
    write(folder, "selection.toml", &text)
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Whether a dependency has no bottle for this platform upstream either: brew would
/// build it from source.
fn lacks_upstream(error: &BrewError, names: &[String]) -> bool {
    matches!(error, BrewError::NoBottle { formula, .. } if !names.contains(formula))
}

/// How a mirror is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// By `bottles serve`.
    Served,
    /// As S3 itself. Amazon's answers 400 to brew's token, which its stand-in here lets
    /// pass, so that nothing is asked with one.
    Direct,
}

/// The Ruby that brew's source names for a platform.
fn ruby(upstream: &Upstream, tag: &str) -> String {
    let own = match tag {
        linux if linux.ends_with("linux") => linux,
        arm if arm.starts_with("arm64_") => "arm64_big_sur",
        _ => "catalina",
    };
    upstream.unlisted().into_iter().find(|bottle| bottle.tag == own).unwrap().digest
}

/// Installs everything on every platform, in every way; how many installations.
async fn install_everything(mirror: &str, reach: Reach, upstream: &Upstream, formulae: usize) -> usize {
    let mut installed = 0;
    for tag in CLIENTS {
        let ruby = ruby(upstream, tag);
        let client = || Brew::new(mirror, tag);
        let mut ways = vec![client(), client().fresh(&ruby), client().older()];
        if reach == Reach::Served {
            ways.extend([client().with_token().fresh(&ruby), client().older().with_token()]);
        }
        for mut brew in ways {
            let update = brew.update().await.unwrap();
            assert_eq!(update.missing, Vec::<String>::new());
            let names = brew.formulae();
            assert!(names.len() > formulae / 2, "{tag} can install {} formulae", names.len());
            for name in &names {
                match brew.install(name).await {
                    Ok(found) => {
                        assert_eq!(found.formula, *name);
                        installed += 1;
                    }
                    Err(error) => assert!(lacks_upstream(&error, &names), "{name} on {tag}: {error}"),
                }
            }
            // Asked again, nothing has changed.
            assert_eq!(brew.update().await.unwrap().fresh, Vec::<String>::new());
        }
        // A current one asks for the index with a token here, however it is set up.
        let mut flat = if reach == Reach::Served { client() } else { client().older() };
        flat.update().await.unwrap();
        let names = flat.formulae();
        for name in &names {
            match flat.install_flat(name).await {
                Ok(_) => installed += 1,
                Err(error) => assert!(lacks_upstream(&error, &names), "{name} on {tag}, flat: {error}"),
            }
        }
    }
    installed
}

#[test]
fn brew_installs_everything_from_a_folder_that_is_served() {
    let mirror = Mirror::of(spec());
    let selection = selection(mirror.here().as_path(), &mirror.upstream);
    mirror.sync(0, &["--selection", &selection]);
    let server = Server::start(bare(&[Path::new("serve"), &mirror.dir()]));
    let url = format!("http://{}", server.address);
    mirror.upstream.log().clear();
    let installed = runtime().block_on(install_everything(&url, Reach::Served, &mirror.upstream, 40));
    assert!(installed > 300, "{installed}");
    assert!(mirror.upstream.log().entries().is_empty(), "upstream was asked");
}

#[test]
fn brew_installs_everything_from_a_bucket_served_and_asked_directly() {
    let aws = Aws::with(spec());
    let folder = tempfile::tempdir().unwrap();
    let selection = selection(folder.path(), &aws.upstream);
    aws.run(&["sync", "--to", "s3://team-bottles", "--selection", &selection]).expect(0);
    let served = Server::start(aws.command(&["serve", "s3://team-bottles"]));
    let direct = format!("{}/team-bottles", aws.cloud.emulator().url());
    for (mirror, reach) in [(format!("http://{}", served.address), Reach::Served), (direct, Reach::Direct)] {
        let installed = aws.runtime.block_on(install_everything(&mirror, reach, &aws.upstream, 40));
        assert!(installed > 300, "{installed} from {mirror}");
    }
}

#[test]
fn a_fallback_is_installed_where_there_is_no_bottle_of_ones_own() {
    let formula = |name: &str, tag: &str| FormulaSpec::new(name, "1.0").with_bottle(tag, 3_000);
    let formulae =
        vec![formula("exact", "arm64_tahoe"), formula("older", "arm64_sonoma"), formula("any", "all")];
    let mirror = Mirror::of(Spec { seed: 3, formulae, ..Spec::default() });
    mirror.sync(0, &["--tag", "arm64_tahoe"]);
    let server = Server::start(bare(&[Path::new("serve"), &mirror.dir()]));
    runtime().block_on(async {
        let mut brew = Brew::new(&format!("http://{}", server.address), "arm64_tahoe");
        brew.update().await.unwrap();
        for (name, tag) in [("exact", "arm64_tahoe"), ("older", "arm64_sonoma"), ("any", "all")] {
            assert_eq!(brew.install(name).await.unwrap().tag, tag);
        }
    });
}

#[test]
fn brew_installs_from_taps_in_a_registry_and_on_a_plain_host() {
    let mirror = Mirror::of(Spec { seed: 4, taps: TapSpec::demo(), ..Spec::demo(1) });
    let taps = ["example/tools", "example/files"];
    let text = taps.map(|tap| {
        format!("[[taps]]\nname = '{tap}'\ncatalogue = '{}'\n", mirror.upstream.tap_catalogue_url(tap))
    });
    let text = text.concat();
    let selection =
        write(mirror.here().as_path(), "selection.toml", &format!("formulae = ['example/*/*']\n{text}"));
    let files = mirror.upstream.files_url().replace("http://", "");
    mirror.sync(0, &["--selection", &selection, "--allow-host", &files]);
    let server = Server::start(bare(&[Path::new("serve"), &mirror.dir()]));
    let url = format!("http://{}", server.address);
    mirror.upstream.log().clear();
    runtime().block_on(async {
        for tap in taps {
            let bottles = mirror.upstream.expected_in(tap);
            assert!(bottles.len() > 2, "{tap} has {} bottles", bottles.len());
            for bottle in bottles {
                let client = || Brew::new(&url, &bottle.tag);
                for brew in [client(), client().with_token()] {
                    let installed = brew.install_of_tap(&bottle).await.unwrap();
                    assert_eq!((installed.sha256, installed.bytes), (bottle.digest.clone(), bottle.size));
                }
            }
        }
    });
    assert!(mirror.upstream.log().entries().is_empty(), "upstream was asked");
}
