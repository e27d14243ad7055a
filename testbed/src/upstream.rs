//! The running servers.

mod answer;
mod api;
mod body;
mod cdn;
mod expected;
mod files;
mod registry;
mod server;
mod state;
mod turn;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::catalogue::Spec;
use crate::demo::Planted;
use crate::fault::{Fault, Faults, Times};
use crate::index::Omit;
use crate::log::{RequestLog, Server};
use crate::published::{CATALOGUE, tap_catalogue};
use crate::sync::lock;
use crate::tap::TapRoot;
pub use expected::{ExpectedBottle, ExpectedTapBottle};
use state::{Shared, digest};

/// How long the servers have to end when they are dropped.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Four running servers on 127.0.0.1. They have threads of their own, so neither a
/// blocked test nor a paused clock stops them. Dropping this closes every connection
/// and frees the ports.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The ports to listen on; 0 takes any free one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// Of the API.
    pub api: u16,
    /// Of the registry.
    pub registry: u16,
    /// Of the host that the registry redirects to.
    pub cdn: u16,
    /// Of the plain host of flat files.
    pub files: u16,
}

impl Upstream {
    /// Serves `spec` from free ports.
    ///
    /// # Errors
    /// If a port can't be bound or a thread can't be started.
    pub async fn start(spec: Spec) -> anyhow::Result<Self> {
        Self::start_on(spec, Ports::default()).await
    }

    /// Serves `spec` from the ports given. Returns when every digest is worked out and
    /// the catalogue is ready to be sent, also compressed.
    ///
    /// # Errors
    /// If a port can't be bound or a thread can't be started.
    pub async fn start_on(spec: Spec, ports: Ports) -> anyhow::Result<Self> {
        let (ready, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("testbed".to_owned())
            .spawn(move || run(spec, ports, ready, stopped))
            .context("no thread for the servers")?;
        let shared = started.await.map_err(|_| anyhow!("the servers ended before they began"))??;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:<port>/api`: stands for `https://formulae.brew.sh/api`.
    pub fn api_url(&self) -> String {
        format!("{}/api", self.shared.origins.api)
    }

    /// The origin that stands for `https://ghcr.io`.
    pub fn registry_url(&self) -> String {
        self.shared.origins.registry.clone()
    }

    /// The origin that stands for `https://pkg-containers.githubusercontent.com`.
    pub fn cdn_url(&self) -> String {
        self.shared.origins.cdn.clone()
    }

    /// The plain host of the taps whose bottles are flat files; there is nothing on it
    /// while no tap is of that kind.
    pub fn files_url(&self) -> String {
        self.shared.origins.files.clone()
    }

    /// Where the catalogue of a tap beside homebrew/core is.
    pub fn tap_catalogue_url(&self, tap: &str) -> String {
        format!("{}{}", self.shared.origins.api, tap_catalogue(tap))
    }

    /// The variables that lead any program of the system here, instead of to the
    /// real upstream, and as fast as it likes.
    pub fn variables(&self) -> Vec<(String, String)> {
        let published = self.shared.published();
        let files = published.taps().iter().any(|tap| tap.root == TapRoot::Files);
        let hosts: Vec<String> = [self.cdn_url()]
            .into_iter()
            .chain(files.then(|| self.files_url()))
            .map(|origin| origin.trim_start_matches("http://").to_owned())
            .collect();
        let variables = [
            ("BOTTLES_API_URL", self.api_url()),
            ("BOTTLES_REWRITE", format!("https://ghcr.io={}", self.registry_url())),
            ("BOTTLES_ALLOW_HOST", hosts.join(",")),
            ("BOTTLES_REQUESTS_PER_SECOND", "10000".to_owned()),
        ];
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What was asked.
    pub fn log(&self) -> &RequestLog {
        &self.shared.log
    }

    /// Every bottle of homebrew/core published last, in the catalogue's order; one that
    /// two tags share is there twice. Without the unlisted ones.
    pub fn expected(&self) -> Vec<ExpectedBottle> {
        expected::of_core(&self.shared.published(), false)
    }

    /// The bottles of homebrew/core that the registry has and the catalogue doesn't list.
    pub fn unlisted(&self) -> Vec<ExpectedBottle> {
        expected::of_core(&self.shared.published(), true)
    }

    /// Every bottle that the catalogue of a tap lists, in its order; none if there is no
    /// such tap.
    pub fn expected_in(&self, tap: &str) -> Vec<ExpectedTapBottle> {
        expected::in_tap(&self.shared.published(), tap)
    }

    /// The image index of a formula, by its full name, as it is served; empty if there is
    /// no such formula or its tap has no indexes.
    pub fn index_bytes(&self, formula: &str) -> Vec<u8> {
        let published = self.shared.published();
        let bytes = published.formula(formula).and_then(|bottled| {
            published.index(&bottled.repository()?, &bottled.spec.image_tag(), &Omit::default())
        });
        bytes.unwrap_or_default()
    }

    /// All bytes of the bottle with a digest, in hexadecimal with or without
    /// `sha256:`; `None` if it was never published.
    pub fn content(&self, digest_text: &str) -> Option<Vec<u8>> {
        let digest = digest(digest_text.strip_prefix("sha256:").unwrap_or(digest_text))?;
        let (generator, content) = self.shared.published().blob(&digest)?;
        Some(generator.whole(content))
    }

    /// The catalogue of a tap beside homebrew/core, as it is sent without compression;
    /// empty if there is no such tap.
    pub fn tap_catalogue(&self, tap: &str) -> Vec<u8> {
        self.api_file(&tap_catalogue(tap)).unwrap_or_default()
    }

    /// The paths of the API's files, `/api/formula.json` included. The catalogues of other
    /// taps are not among them.
    pub fn api_paths(&self) -> Vec<String> {
        self.shared.published().api_paths().cloned().collect()
    }

    /// The bytes of a file of the API by its path, such as
    /// `/api/internal/packages.x86_64_linux.jws.json` or `/api/formula.json`, as they
    /// are sent without compression.
    pub fn api_file(&self, path: &str) -> Option<Vec<u8>> {
        Some(self.shared.published().file(path)?.body.to_vec())
    }

    /// Publishes something else from now on: a new catalogue with a new `ETag` and a
    /// later `Last-Modified`. Indexes, blobs and flat files published before stay, unless
    /// the new spec has the same image and tag, or file name. Blocks while new digests
    /// are worked out.
    pub fn replace(&self, spec: Spec) {
        self.shared.replace(spec);
    }

    /// Publishes something else as [`replace`](Self::replace) does, once `count` answers
    /// have been given from now on to requests that match; see [`Faults::set`] for
    /// patterns. The next request, to whichever server, meets the new spec; an answer
    /// that is on its way stays as it was. Every answer counts, failures and 304 too, but
    /// no reset. Several specs may wait, each of which counts for itself; of those that
    /// wait for the same answer the last one set stays.
    pub fn replace_after(&self, pattern: &str, count: usize, spec: Spec) {
        self.shared.replace_after(pattern, count, spec);
    }

    /// Makes the two bottles fail: wrong bytes from the CDN for the one, 404 from the
    /// registry for the other. A bottle that isn't published is passed over.
    pub fn plant(&self, planted: &Planted) {
        let bottles = self.expected();
        let mut patterns = lock(&self.shared.planted);
        let mut set = |server: Server, (formula, tag): &(String, String), fault: Fault| {
            let found = bottles.iter().find(|one| one.formula == *formula && one.tag == *tag);
            if let Some(bottle) = found {
                let pattern = format!("{server}:*/blobs/sha256:{}", bottle.digest);
                self.shared.faults.set(&pattern, fault, Times::Always);
                patterns.push(pattern);
            }
        };
        set(Server::Cdn, &planted.wrong_hash, Fault::Corrupt);
        set(Server::Registry, &planted.not_found, Fault::Status { code: 404, retry_after: None });
    }

    /// Takes back every [`plant`](Self::plant); other faults stay.
    pub fn mend(&self) {
        for pattern in lock(&self.shared.planted).drain(..) {
            self.shared.faults.clear_pattern(&pattern);
        }
    }

    /// While on, the registry refuses the fixed anonymous token (`QQ==`) with 401, so
    /// that clients have to fetch one from the address in the challenge.
    pub fn require_fresh_token(&self, on: bool) {
        self.shared.fresh_token.store(on, Ordering::Relaxed);
    }

    /// For how long the addresses that the registry redirects to are good; five
    /// minutes at the start. Acts on redirects from now on, to the millisecond.
    pub fn set_signature_lifetime(&self, lifetime: Duration) {
        let milliseconds = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        self.shared.signature_lifetime.store(milliseconds, Ordering::Relaxed);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // An error is a panic there, which was reported there.
            let _ = thread.join();
        }
    }
}

type Ready = oneshot::Sender<anyhow::Result<Arc<Shared>>>;

/// The life of the servers' thread.
fn run(spec: Spec, ports: Ports, ready: Ready, stopped: oneshot::Receiver<()>) {
    let begun = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("testbed-worker")
        .enable_all()
        .build()
        .context("no runtime for the servers")
        .and_then(|runtime| {
            let shared = begin(&runtime, spec, ports)?;
            Ok((runtime, shared))
        });
    match begun {
        Ok((runtime, shared)) => {
            if ready.send(Ok(shared)).is_ok() {
                // The sender's end says the same as a message would.
                let _ = runtime.block_on(stopped);
            }
            runtime.shutdown_timeout(SHUTDOWN);
        }
        // Nobody waits any more: the caller gave up starting.
        Err(error) => drop(ready.send(Err(error))),
    }
}

fn begin(runtime: &Runtime, spec: Spec, ports: Ports) -> anyhow::Result<Arc<Shared>> {
    let bind = |port: u16| -> anyhow::Result<(TcpListener, String)> {
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", port)))
            .with_context(|| format!("can't listen on 127.0.0.1:{port}"))?;
        let origin = format!("http://{}", listener.local_addr()?);
        Ok((listener, origin))
    };
    let (api, registry) = (bind(ports.api)?, bind(ports.registry)?);
    let (cdn, files) = (bind(ports.cdn)?, bind(ports.files)?);
    let origins = state::Origins { api: api.1, registry: registry.1, cdn: cdn.1, files: files.1 };
    let shared = Arc::new(Shared::new(spec, origins));
    if let Some(catalogue) = shared.published().file(CATALOGUE) {
        catalogue.gzip();
    }
    let servers = [
        (api.0, Server::Api),
        (registry.0, Server::Registry),
        (cdn.0, Server::Cdn),
        (files.0, Server::Files),
    ];
    for (listener, server) in servers {
        runtime.spawn(server::serve(listener, server, Arc::clone(&shared)));
    }
    Ok(shared)
}
