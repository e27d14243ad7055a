//! A scripted `brew` against the mirror alone, asking what the real one asks: every formula
//! on every platform, and at any moment of a run.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use testbed::brew::{Brew, BrewError};
use testbed::{FormulaSpec, Spec, Upstream};
use tokio::runtime::{Builder, Runtime};

use crate::aws::Aws;
use crate::harness::{Draws, Mirror, bare, write};
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

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Whether a dependency has no bottle for this platform upstream either: brew would
/// build it from source.
fn lacks_upstream(error: &BrewError, names: &[String]) -> bool {
    matches!(error, BrewError::NoBottle { formula, .. } if !names.contains(formula))
}

/// Installs everything on every platform, in every way; how many installations.
async fn install_everything(mirror: &str, upstream: &Upstream, formulae: usize) -> usize {
    let mut installed = 0;
    for tag in CLIENTS {
        for older in [false, true] {
            let brew = Brew::new(mirror, tag);
            let mut brew = if older { brew.older().with_token() } else { brew };
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
        let mut flat = Brew::new(mirror, tag);
        flat.update().await.unwrap();
        let names = flat.formulae();
        for name in &names {
            match flat.install_flat(name).await {
                Ok(_) => installed += 1,
                Err(error) => assert!(lacks_upstream(&error, &names), "{name} on {tag}, flat: {error}"),
            }
        }
        for bottle in upstream.unlisted() {
            for brew in [Brew::new(mirror, tag), Brew::new(mirror, tag).with_token()] {
                let bytes = brew.fetch_portable_ruby(&bottle.digest).await.unwrap();
                assert!(Some(bytes) == upstream.content(&bottle.digest));
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
    let installed = runtime().block_on(install_everything(&url, &mirror.upstream, 40));
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
    for mirror in [format!("http://{}", served.address), direct] {
        let installed = aws.runtime.block_on(install_everything(&mirror, &aws.upstream, 40));
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

/// More formulae with each wave, and another version of the first ones.
fn wave(number: u32) -> Spec {
    let formula = |at: u32| {
        let version = if at < 8 { format!("{number}.0") } else { "1.0".to_owned() };
        let formula = FormulaSpec::new(format!("wave-{at:03}"), version)
            .with_bottle("arm64_tahoe", 4_000 + u64::from(at))
            .with_bottle("x86_64_linux", 5_000 + u64::from(at));
        if at > 0 { formula.with_dependencies(&["wave-000"]) } else { formula }
    };
    Spec { seed: 21, formulae: (0..20 + 10 * number).map(formula).collect(), ..Spec::default() }
}

/// What readers saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    /// Times that everything in the API was there.
    whole: AtomicUsize,
    /// Times that nothing was published yet.
    early: AtomicUsize,
}

/// Reads the whole API again and again, and all that it names.
fn read(mirror: &str, client: &str, seen: &Seen) -> Result<(), BrewError> {
    runtime().block_on(async {
        let mut brew = Brew::new(mirror, client);
        while !seen.stop.load(Ordering::Relaxed) {
            match brew.check_all(|_| true).await {
                Ok(checked) => {
                    assert!(checked >= 20, "{checked}");
                    seen.whole.fetch_add(1, Ordering::Relaxed);
                }
                Err(BrewError::NoApi { .. }) if seen.whole.load(Ordering::Relaxed) == 0 => {
                    seen.early.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

#[test]
fn a_reader_never_sees_an_api_file_whose_bottles_are_missing() {
    let mirror = Mirror::of(wave(1));
    std::fs::create_dir_all(mirror.path("_sync")).unwrap();
    let slow = testbed::Fault::Delay(Duration::from_millis(15));
    mirror.upstream.faults().set("cdn:*", slow, testbed::Times::Always);
    let server = Server::start(bare(&[Path::new("serve"), &mirror.dir()]));
    let url = format!("http://{}", server.address);
    let seen = [Seen::default(), Seen::default()];
    thread::scope(|scope| {
        let readers: Vec<_> = ["arm64_tahoe", "x86_64_linux"]
            .into_iter()
            .zip(&seen)
            .map(|(client, seen)| {
                scope.spawn({
                    let url = &url;
                    move || read(url, client, seen)
                })
            })
            .collect();
        let mut draws = Draws(0xfeed);
        for number in 1..=4 {
            mirror.upstream.replace(wave(number));
            // A run that is killed again and again, and one that comes to its end.
            for _ in 0..4 {
                let mut sync = mirror.start(&["sync", "--concurrency", "3"]);
                thread::sleep(Duration::from_millis(150 + draws.below(500)));
                sync.kill();
            }
            mirror.run(&["sync", "--concurrency", "3"]).expect(0);
            let before: Vec<_> = seen.iter().map(|seen| seen.whole.load(Ordering::Relaxed)).collect();
            // Both get to see what is published now.
            for (seen, before) in seen.iter().zip(before) {
                let mut rounds = 0;
                while seen.whole.load(Ordering::Relaxed) < before + 2 && rounds < 600 {
                    thread::sleep(Duration::from_millis(50));
                    rounds += 1;
                }
            }
        }
        for seen in &seen {
            seen.stop.store(true, Ordering::Relaxed);
        }
        for reader in readers {
            reader.join().unwrap().unwrap_or_else(|error| panic!("a reader saw: {error}"));
        }
    });
    for seen in &seen {
        assert!(seen.early.load(Ordering::Relaxed) > 0, "it never read before anything was published");
        assert!(seen.whole.load(Ordering::Relaxed) > 8);
    }
    mirror.run(&["verify", "--deep"]).expect(0);
}
