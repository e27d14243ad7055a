//! Readers of a mirror at any moment of a run, of a crash and of the run after it: what
//! they read of the API is there, for clients of each generation and layout.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::brew::{Brew, BrewError};
use testbed::{Fault, FormulaSpec, Spec, Times};

use crate::aws::Aws;
use crate::brew::runtime;
use crate::harness::{Draws, Mirror, Running, bare, write};
use crate::server::Server;

/// How a client reads the mirror.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its platform's file of the API, and the registry's paths.
    Current,
    /// The files that name all platforms, and the registry's paths.
    Older,
    /// Its platform's file of the API, and flat names.
    Flat,
}

/// A client that reads the whole API again and again, and all that it names.
struct Reader {
    client: &'static str,
    way: Way,
    /// How long an image index may lack an entry that the API names.
    moment: Duration,
    stop: AtomicBool,
    /// Times that everything in the API was there.
    whole: AtomicUsize,
    /// Times that nothing was published yet.
    early: AtomicUsize,
}

impl Reader {
    fn new(client: &'static str, way: Way) -> Self {
        let (whole, early) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { client, way, moment: Duration::ZERO, stop: AtomicBool::new(false), whole, early }
    }

    /// Of a mirror where bottles change under the same tag. Their index and the file of
    /// the API are two objects, one of which is written first, and a client may have read
    /// the one before and the other after; but no run leaves it at that.
    fn of_changes_in_place(self) -> Self {
        Self { moment: Duration::from_secs(5), ..self }
    }

    fn brew(&self, mirror: &str) -> Brew {
        let brew = Brew::new(mirror, self.client);
        if self.way == Way::Older { brew.older() } else { brew }
    }

    async fn look(&self, brew: &mut Brew) -> Result<usize, BrewError> {
        match self.way {
            Way::Current | Way::Older => brew.check_all(|_| true).await,
            Way::Flat => brew.check_all_flat(|_| true).await,
        }
    }

    /// Reads until it is stopped, or meets something that isn't there.
    fn read(&self, mirror: &str) -> Result<(), BrewError> {
        let read = runtime().block_on(async {
            let mut brew = self.brew(mirror);
            let mut lacks_since: Option<Instant> = None;
            while !self.stop.load(Ordering::Relaxed) {
                let look = self.look(&mut brew).await;
                match look {
                    Ok(checked) => {
                        assert!(checked >= 20, "{checked}");
                        self.whole.fetch_add(1, Ordering::Relaxed);
                        lacks_since = None;
                    }
                    Err(BrewError::NoApi { .. }) if self.seen() == 0 => {
                        self.early.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(BrewError::NoEntry { .. })
                        if lacks_since.get_or_insert_with(Instant::now).elapsed() < self.moment => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        // Nobody needs to wait for it any more.
        self.stop.store(true, Ordering::Relaxed);
        read
    }

    fn seen(&self) -> usize {
        self.whole.load(Ordering::Relaxed)
    }

    /// Waits until all of what is published now was there.
    fn wait(&self) {
        let before = self.seen();
        let mut rounds = 0;
        // The first may have begun before.
        while self.seen() < before + 2 && !self.stop.load(Ordering::Relaxed) {
            rounds += 1;
            assert!(rounds < 1_200, "{} reads nothing to its end", self.client);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Tells readers to stop, also where a test ends early.
struct Stop<'a>(&'a [Reader]);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        for reader in self.0 {
            reader.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Does `work` while all readers read.
fn watched(mirror: &str, readers: &[Reader], work: impl FnOnce()) {
    thread::scope(|scope| {
        let all: Vec<_> = readers.iter().map(|reader| scope.spawn(move || reader.read(mirror))).collect();
        {
            let _stop = Stop(readers);
            work();
        }
        for (reader, read) in readers.iter().zip(all) {
            read.join().unwrap().unwrap_or_else(|error| panic!("a reader on {} saw: {error}", reader.client));
        }
    });
}

/// Runs that are killed somewhere, one that comes to its end, and what readers see then.
fn killed_and_ended(kills: usize, draws: &mut Draws, readers: &[Reader], start: impl Fn() -> Running) {
    for _ in 0..kills {
        let mut sync = start();
        thread::sleep(Duration::from_millis(150 + draws.below(500)));
        sync.kill();
    }
    start().wait().expect(0);
    for reader in readers {
        reader.wait();
    }
}

/// More formulae with each wave, another version of the first ones, and under the tag of
/// some others a bottle for a platform that took an older one's until then.
fn wave(number: u32) -> Spec {
    let formula = |at: u32| {
        let version = if at < 8 { format!("{number}.0") } else { "1.0".to_owned() };
        let formula = FormulaSpec::new(format!("wave-{at:03}"), version)
            .with_bottle("x86_64_linux", 5_000 + u64::from(at));
        let formula = match at {
            8..20 => formula.with_bottle("arm64_sonoma", 3_000 + u64::from(at)),
            _ => formula,
        };
        let is_appended = at < 8 + 3 * (number - 1);
        let formula = if is_appended || !(8..20).contains(&at) {
            formula.with_bottle("arm64_tahoe", 4_000 + u64::from(at))
        } else {
            formula
        };
        if at > 0 { formula.with_dependencies(&["wave-000"]) } else { formula }
    };
    Spec { seed: 21, formulae: (0..20 + 10 * number).map(formula).collect(), ..Spec::default() }
}

/// The same versions and tags with each wave, of which the first have other bytes.
fn rewritten(number: u64) -> Spec {
    let formula = |at: u64| {
        let content = if at < 8 { 1_000 * number + at } else { at };
        FormulaSpec::new(format!("rewritten-{at:03}"), "1.0")
            .with_content("arm64_tahoe", 4_000 + at, 2 * content)
            .with_content("x86_64_linux", 5_000 + at, 2 * content + 1)
    };
    let mut formulae: Vec<_> = (0..30).map(formula).collect();
    // Another version too: so that a run has more to do than what it changes in place.
    formulae.extend((0..20).map(|at| {
        FormulaSpec::new(format!("other-{at:03}"), format!("{number}.0"))
            .with_bottle("arm64_tahoe", 4_000 + at)
            .with_bottle("x86_64_linux", 5_000 + at)
    }));
    Spec { seed: 22, formulae, ..Spec::default() }
}

/// An upstream that takes its time, and a mirror that is served before anything is there.
fn slow(spec: Spec) -> (Mirror, Server, String) {
    let mirror = Mirror::of(spec);
    std::fs::create_dir_all(mirror.path("_sync")).unwrap();
    mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(15)), Times::Always);
    let server = Server::start(bare(&[Path::new("serve"), &mirror.dir()]));
    let url = format!("http://{}", server.address);
    (mirror, server, url)
}

#[test]
fn a_reader_never_sees_an_api_file_whose_bottles_are_missing() {
    let (mirror, _server, url) = slow(wave(1));
    let selection = write(mirror.here().as_path(), "selection.toml", "layout = 'flat'");
    let readers = [
        Reader::new("arm64_tahoe", Way::Current),
        Reader::new("x86_64_linux", Way::Current),
        Reader::new("arm64_tahoe", Way::Older),
        Reader::new("arm64_tahoe", Way::Flat),
    ];
    watched(&url, &readers, || {
        let mut draws = Draws(0xfeed);
        for number in 1..=4 {
            mirror.upstream.replace(wave(number));
            let start = || mirror.start(&["sync", "--concurrency", "3", "--selection", &selection]);
            killed_and_ended(4, &mut draws, &readers, start);
        }
    });
    for reader in &readers {
        let early = reader.early.load(Ordering::Relaxed);
        assert!(early > 0, "{} never read before anything was published", reader.client);
        assert!(reader.seen() > 8);
    }
    mirror.run(&["verify", "--deep"]).expect(0);
}

/// Flat names say no digest: what is changed in place is another's for a moment under
/// them, at upstream too, so that nobody reads them here.
#[test]
fn a_reader_never_misses_an_entry_of_an_index_that_is_changed_in_place() {
    let (mirror, _server, url) = slow(rewritten(1));
    let readers = [
        Reader::new("arm64_tahoe", Way::Current).of_changes_in_place(),
        Reader::new("x86_64_linux", Way::Current).of_changes_in_place(),
        Reader::new("x86_64_linux", Way::Older).of_changes_in_place(),
    ];
    watched(&url, &readers, || {
        let mut draws = Draws(0xbeef);
        for number in 1..=4 {
            mirror.upstream.replace(rewritten(number));
            killed_and_ended(4, &mut draws, &readers, || mirror.start(&["sync", "--concurrency", "3"]));
        }
    });
    mirror.run(&["verify", "--deep"]).expect(0);
}

/// The bottle of one platform is dead, so that its API files stay as they were, and those
/// of the other are published.
#[test]
fn an_index_in_place_has_the_entries_that_every_published_api_file_needs() {
    let mirror = Mirror::of(rewritten(1));
    mirror.run(&["sync"]).expect(0);
    let server = Server::start(bare(&[Path::new("serve"), &mirror.dir()]));
    let url = format!("http://{}", server.address);
    mirror.upstream.replace(rewritten(2));
    let bottles = mirror.upstream.expected();
    let dead = bottles.iter().find(|one| one.formula == "other-000" && one.tag == "x86_64_linux").unwrap();
    let pattern = format!("registry:*{}", dead.digest);
    mirror.upstream.faults().set(&pattern, Fault::Status { code: 404, retry_after: None }, Times::Always);
    mirror.run(&["sync"]).expect(3);
    let all_read = || {
        runtime().block_on(async {
            for (client, way) in [
                ("arm64_tahoe", Way::Current),
                ("x86_64_linux", Way::Current),
                ("arm64_tahoe", Way::Older),
                ("x86_64_linux", Way::Older),
            ] {
                let reader = Reader::new(client, way);
                let read = reader.look(&mut reader.brew(&url)).await;
                read.unwrap_or_else(|error| panic!("a reader on {client} saw: {error}"));
            }
        });
    };
    all_read();
    mirror.upstream.faults().clear();
    mirror.run(&["dead-letters", "replay"]).expect(0);
    mirror.run(&["sync"]).expect(0);
    all_read();
}

#[test]
fn a_reader_of_a_served_bucket_never_sees_an_api_file_whose_bottles_are_missing() {
    let aws = Aws::with(wave(1));
    let folder = tempfile::tempdir().unwrap();
    let selection = write(folder.path(), "selection.toml", "layout = 'flat'");
    let sync = ["sync", "--to", "s3://team-bottles", "--concurrency", "3", "--selection", &selection];
    aws.run(&sync).expect(0);
    let served = Server::start(aws.command(&["serve", "s3://team-bottles"]));
    let readers = [
        Reader::new("arm64_tahoe", Way::Current),
        Reader::new("x86_64_linux", Way::Older),
        Reader::new("arm64_tahoe", Way::Flat),
    ];
    aws.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(15)), Times::Always);
    watched(&format!("http://{}", served.address), &readers, || {
        aws.upstream.replace(wave(3));
        let mut draws = Draws(0xcafe);
        killed_and_ended(2, &mut draws, &readers, || Running::start(aws.command(&sync)));
    });
    aws.run(&["verify", "--to", "s3://team-bottles"]).expect(0);
}
