//! `bottles import-hashes` and `bottles export-hashes`: coming from the Python system,
//! and telling others in its words.

mod describe;
mod read;

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use common::clock::Clock;
use common::hash_file::{self, Exported, HashFile, ImportSettings, Importer, Trust, Versions};
use common::manifest;
use common::pipeline::STORE_RETRY;
use common::selection::{Selection, SelectionFile};
use common::store::{Folder, Store};

use crate::args::{ExportHashesOptions, ImportHashesOptions};
use crate::deployed::{self, Named};
use crate::destination::Destination;
use crate::output::{self, Exit, Usage, counted, grouped, line};
use crate::place::{self, Local};
use crate::{progress, stop};

/// A mirror to import into.
struct Target {
    store: Arc<dyn Store>,
    clock: Clock,
    /// The mirror itself, where it is settled from here.
    local: Option<Local>,
    /// The options that name it.
    named: String,
}

pub(crate) async fn import(options: ImportHashesOptions) -> anyhow::Result<Exit> {
    let trust = Trust::new(options.trust.clone()).map_err(|error| Usage(format!("--trust: {error}")))?;
    let everything = Selection::new(SelectionFile::default())?;
    let upstream = place::upstream(&read::allowing(&options.file, &options.upstream)?, &everything)?;
    let bytes = read::read(&options.file, &upstream, &options.target.place.store).await?;
    let file = HashFile::parse(&bytes).with_context(|| options.file.to_string())?;
    drop(bytes);

    let target = open(&options).await?;
    let importer = Importer {
        store: Arc::clone(&target.store),
        upstream,
        clock: target.clock.clone(),
        settings: ImportSettings {
            trust,
            listed_only: options.listed_only,
            concurrency: usize::from(options.concurrency),
            dry_run: options.dry_run,
            ..ImportSettings::new(options.upstream.api_url.clone())
        },
        progress: hash_file::ImportProgress::default(),
        stop: stop::on_signals()?,
    };
    let importing = importer.import(file);
    let report = progress::while_importing(&importer.progress, options.json, importing).await?;
    if let Some(local) = target.local.as_ref().filter(|_| !options.dry_run) {
        local.settler().settle().await?;
    }
    if options.json {
        output::json(&report)?;
    } else {
        describe::import(&report, &target, &options);
    }
    Ok(if report.skipped.is_empty() { Exit::Done } else { Exit::Attention })
}

/// Opens the mirror; a dry run leaves no trace there.
async fn open(options: &ImportHashesOptions) -> anyhow::Result<Target> {
    let (place, stack) = (&options.target.place, Named::of(&options.target));
    if stack.is_meant() {
        let deployed::Target { pipeline, named, .. } = deployed::open(place, stack).await?;
        return Ok(Target { store: pipeline.store, clock: pipeline.clock, local: None, named });
    }
    let Some(to) = &place.to else {
        return Err(Usage("name a mirror with --to, or a deployed system with --stack".to_owned()).into());
    };
    if let Destination::Folder(root) = to
        && !root.is_dir()
    {
        let why = "there is no such folder; name the one that has the dated folders in it";
        return Err(Usage(format!("--to {to}: {why}")).into());
    }
    let named = format!("--to {to}");
    if !options.dry_run {
        let local = Local::open(to, place).await?;
        let (store, clock) = (Arc::clone(&local.pipeline.store), local.pipeline.clock.clone());
        return Ok(Target { store, clock, local: Some(local), named });
    }
    let store: Arc<dyn Store> = match to {
        Destination::Folder(root) => Arc::new(Folder::view(root)),
        Destination::Bucket(location) => {
            let store = place::bucket(location, &place.store).await;
            store.check().await.with_context(|| format!("{location} can't be used"))?;
            Arc::new(store)
        }
    };
    Ok(Target { store, clock: Clock::system(), local: None, named })
}

pub(crate) async fn export(options: ExportHashesOptions) -> anyhow::Result<Exit> {
    let ExportHashesOptions { output, target: options } = options;
    let output = output.as_deref();
    if let Some(path) = output
        && (path.is_dir() || !folder_of(path).is_dir())
    {
        return Err(
            Usage(format!("--output {}: it takes a file in a folder that is there", path.display())).into()
        );
    }
    let target = deployed::open(&options.place, Named::of(&options)).await?;
    let store = &*target.pipeline.store;
    let manifest = manifest::load_folded(store, STORE_RETRY).await?;
    let versions = Versions::read(store, &manifest).await?;
    let now = target.pipeline.clock.now();
    if let Some(path) = output {
        let exported = write(path, |to| hash_file::export(&manifest, &versions, now, to))
            .with_context(|| format!("{} can't be written", path.display()))?;
        let entries = if exported.entries == 1 { "entry" } else { "entries" };
        line(format_args!("{} {entries} in {}", grouped(exported.entries), path.display()));
        warn_of_other_taps(&exported);
        return Ok(Exit::Done);
    }
    let mut to = BufWriter::new(io::stdout().lock());
    match hash_file::export(&manifest, &versions, now, &mut to) {
        Ok(exported) => warn_of_other_taps(&exported),
        // The reader went away, and had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(error).context("standard output can't be written"),
    }
    Ok(Exit::Done)
}

fn warn_of_other_taps(exported: &Exported) {
    if exported.other_taps > 0 {
        let bottles = counted(exported.other_taps, "bottle");
        output::warn(format_args!("{bottles} of other taps left out: such a file has no words for them"));
    }
}

/// Writes a file that is seen whole or not at all; what is no plain file, a pipe or a
/// device, is written to as it is, and a link stays one.
fn write<T>(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        let mut to = BufWriter::new(File::options().write(true).open(path)?);
        let written = content(&mut to)?;
        to.flush()?;
        return Ok(written);
    }
    let mut file = tempfile::Builder::new()
        // As any file is made; the process's umask takes away from it.
        .permissions(Permissions::from_mode(0o666))
        .prefix(".bottles-")
        .tempfile_in(folder_of(path))?;
    let mut to = BufWriter::new(file.as_file_mut());
    let written = content(&mut to)?;
    to.flush()?;
    drop(to);
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(written)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
