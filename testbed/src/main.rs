//! Runs the look-alike as a process of its own, for the demo and the benches.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;

use anyhow::{Context as _, bail};
use clap::Parser;
use serde_json::json;
use testbed::{Ports, Spec, TapSpec, Upstream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// A look-alike of formulae.brew.sh and ghcr.io on loopback.
///
/// Serves until SIGINT or SIGTERM. While it runs, POST and DELETE `/_testbed/faults` at
/// the API's port set and clear faults; GET `/_testbed/log` and `/_testbed/expected`
/// tell what was asked and what a mirror should hold. The catalogue of another tap is at
/// `/taps/<user>/<tap>/formula.json`, at the API's port.
#[derive(Debug, Parser)]
#[command(version)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
struct Options {
    /// Publish the demo's 40 formulae; this is the default
    #[arg(long, conflicts_with_all = ["bottles", "uniform"])]
    demo: bool,
    /// Make two bottles of the demo fail: one has wrong bytes, one is missing
    #[arg(long, conflicts_with_all = ["bottles", "uniform"])]
    plant: bool,
    /// Publish this many bottles, seven a formula
    #[arg(long, value_name = "N", conflicts_with = "uniform")]
    bottles: Option<usize>,
    /// Their sizes in bytes; K, M and G stand for powers of 1024
    #[arg(long, value_name = "MIN..MAX", default_value = "2K..64K", requires = "bottles")]
    size: Sizes,
    /// Publish this many formulae with one bottle a tag, all of one size
    #[arg(long, value_name = "COUNTxSIZE")]
    uniform: Option<Uniform>,
    /// Publish two small taps beside it: example/tools in the registry, example/files on a
    /// plain host
    #[arg(long)]
    taps: bool,
    /// The tags of the bottles of one size
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', default_value = "x86_64_linux")]
    tags: Vec<String>,
    /// Decides the bytes of the bottles
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Port of the API; 0 is any free one
    #[arg(long, default_value_t = 0)]
    api_port: u16,
    /// Port of the registry; 0 is any free one
    #[arg(long, default_value_t = 0)]
    registry_port: u16,
    /// Port of the host that the registry redirects to; 0 is any free one
    #[arg(long, default_value_t = 0)]
    cdn_port: u16,
    /// Port of the plain host of flat files; 0 is any free one
    #[arg(long, default_value_t = 0)]
    files_port: u16,
    /// Print the addresses as one line of JSON
    #[arg(long)]
    print_json: bool,
    /// Remember every request for `/_testbed/log`
    #[arg(long)]
    record: bool,
    /// Also end when standard input is closed
    #[arg(long)]
    until_stdin_closes: bool,
    /// Write the catalogue to a file and end
    #[arg(long, value_name = "FILE")]
    dump_catalogue: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let ports = Ports {
        api: options.api_port,
        registry: options.registry_port,
        cdn: options.cdn_port,
        files: options.files_port,
    };
    let upstream = Upstream::start_on(options.spec(), ports).await?;
    if let Some(file) = &options.dump_catalogue {
        let catalogue = upstream.api_file("/api/formula.json").context("there is no catalogue")?;
        return std::fs::write(file, catalogue).with_context(|| format!("can't write {}", file.display()));
    }
    upstream.log().set_recording(options.record);
    if options.plant {
        upstream.plant(&Spec::demo_planted());
    }
    // From here on, so that a signal right after the addresses appear ends it cleanly.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    announce(&upstream, options.taps, options.print_json)?;
    let stdin = stdin_closed(options.until_stdin_closes);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = stdin => {}
    }
    Ok(())
}

impl Options {
    fn spec(&self) -> Spec {
        let taps = if self.taps { TapSpec::demo() } else { Vec::new() };
        Spec { taps, ..self.core() }
    }

    fn core(&self) -> Spec {
        if let Some(bottles) = self.bottles {
            return Spec::bulk(self.seed, bottles, self.size.0.clone());
        }
        if let Some(Uniform { count, size }) = self.uniform {
            let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
            return Spec::uniform(self.seed, count, size, &tags);
        }
        Spec::demo(self.seed)
    }
}

fn announce(upstream: &Upstream, taps: bool, as_json: bool) -> anyhow::Result<()> {
    let mut addresses =
        vec![("api", upstream.api_url()), ("registry", upstream.registry_url()), ("cdn", upstream.cdn_url())];
    if taps {
        addresses.push(("files", upstream.files_url()));
    }
    let text = if as_json {
        json!(BTreeMap::from_iter(addresses)).to_string()
    } else {
        let lines = addresses.iter().map(|(name, address)| format!("{name:<9} {address}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Resolves when standard input ends; never if it isn't watched.
async fn stdin_closed(watched: bool) {
    if !watched {
        return std::future::pending().await;
    }
    let (closed, wait) = oneshot::channel();
    // A thread of its own: tokio's standard input would hold up the end of the process.
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        let _ = closed.send(());
    });
    let _ = wait.await;
}

#[derive(Clone, Debug)]
struct Sizes(Range<u64>);

impl FromStr for Sizes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (min, max) = text.split_once("..").context("it looks like 2K..64K")?;
        let range = bytes(min)?..bytes(max)?;
        if range.is_empty() {
            bail!("the second size must be larger than the first");
        }
        Ok(Self(range))
    }
}

#[derive(Clone, Copy, Debug)]
struct Uniform {
    count: usize,
    size: u64,
}

impl FromStr for Uniform {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (count, size) = text.split_once('x').context("it looks like 4x512M")?;
        let count = count.parse().with_context(|| format!("{count:?} is no count"))?;
        Ok(Self { count, size: bytes(size)? })
    }
}

/// `300`, `2K`, `24MiB` or `1G`.
fn bytes(text: &str) -> anyhow::Result<u64> {
    let text = text.strip_suffix("iB").unwrap_or(text);
    let (digits, shift) = match text.chars().last() {
        Some('K') => (&text[..text.len() - 1], 10),
        Some('M') => (&text[..text.len() - 1], 20),
        Some('G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let count: u64 = digits.parse().with_context(|| format!("{text:?} is no size"))?;
    count.checked_mul(1 << shift).with_context(|| format!("{text} is too large"))
}
