//! `bottles import-hashes` and `bottles export-hashes`: coming from the Python system,
//! and telling others in its words.

mod read;

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use common::clock::Clock;
use common::hash_file::{self, HashFile, ImportReport, ImportSettings, Importer};
use common::manifest;
use common::run::Count;
use common::selection::{self, Selection, SelectionFile};
use common::size::ByteSize;
use common::store::{Folder, Store};

use crate::args::{ExportHashesOptions, ImportHashesOptions};
use crate::deployed::{self, Named};
use crate::destination::Destination;
use crate::output::{self, Exit, Usage, counted, grouped, line};
use crate::place::{self, Local};
use crate::{progress, stop};

/// How many entries that were skipped are shown.
const SHOWN: usize = 20;

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
    let trust = selection::globs(&options.trust).map_err(|error| Usage(format!("--trust: {error}")))?;
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
            concurrency: usize::from(options.concurrency),
            dry_run: options.dry_run,
            ..ImportSettings::new(options.upstream.api_url.clone())
        },
        progress: hash_file::ImportProgress::default(),
    };
    let cancel = stop::on_signals()?;
    let importing = cancel.run_until_cancelled(importer.import(file));
    let report = progress::while_importing(&importer.progress, options.json, importing).await;
    let Some(report) = report.transpose()? else {
        anyhow::bail!("stopped while importing; the same command goes on where this one was");
    };
    if let Some(local) = target.local.as_ref().filter(|_| !options.dry_run) {
        local.settler().settle().await?;
    }
    if options.json {
        output::json(&report)?;
    } else {
        describe(&report, &target, options.dry_run);
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

fn describe(report: &ImportReport, target: &Target, dry_run: bool) {
    let row = |name: &str, count: Count, what: &str| {
        if count.bottles > 0 {
            let bottles = counted(count.bottles, "bottle");
            line(format_args!("{name:<12} {bottles}, {}: {what}", ByteSize(count.bytes)));
        }
    };
    let updated = report.last_updated.as_ref().map(|at| format!(", last updated {at}")).unwrap_or_default();
    let entries = if report.entries == 1 { "entry" } else { "entries" };
    line(format_args!("File         {} {entries}{updated}", grouped(report.entries)));
    row("Recorded", report.recorded, "the manifest has them already");
    row("Held", report.held, "under their keys already");
    if dry_run {
        row("To adopt", report.adopted, "in dated folders with the right size; not read, so not verified");
        row("To copy", report.copied, "from another image's key");
        row("To trust", report.trusted, "nowhere in the place");
    } else {
        row("Adopted", report.adopted, "in dated folders; read, verified and copied to their keys");
        row("Copied", report.copied, "from another image's key");
        row("Trusted", report.trusted, "nowhere in the place, and not looked for");
    }
    skipped(report);
    let dated = &report.dated;
    if dated.objects > 0 {
        let [first, last] = [&dated.first, &dated.last].map(|date| date.as_deref().unwrap_or_default());
        line(format_args!(
            "\nThe dated folders, {first} to {last}, hold {}, {}. They stay as they are: \
             once you are content with the mirror you may remove them.",
            counted(dated.objects, "object"),
            ByteSize(dated.bytes)
        ));
    }
    if dry_run {
        line("This was a dry run: it looked at presence and sizes alone, and changed nothing.");
        return;
    }
    if report.trusted.bottles > 0 {
        line(format_args!(
            "Warning: {} marked as mirrored without being there. Clients fail on them, and no sync \
             fetches them: `bottles verify {}` finds them.",
            if report.trusted.bottles == 1 {
                "1 bottle is".to_owned()
            } else {
                format!("{} bottles are", grouped(report.trusted.bottles))
            },
            target.named
        ));
    }
    match &target.local {
        Some(_) => line(format_args!(
            "Next: `bottles sync {}` reads the image indexes of these bottles and fetches the others.",
            target.named
        )),
        None => line(
            "Next: within minutes the deployed system takes note; its next plan reads the image \
             indexes of these bottles and queues the others.",
        ),
    }
}

fn skipped(report: &ImportReport) {
    if report.skipped.is_empty() {
        return;
    }
    let reasons: Vec<_> =
        report.reasons().iter().map(|(why, count)| format!("{} {}", grouped(*count), why.as_str())).collect();
    line(format_args!("Skipped      {}: {}", grouped(report.skipped.len() as u64), reasons.join(", ")));
    for skipped in report.skipped.iter().take(SHOWN) {
        line(format_args!("  {}: {}: {}", skipped.key, skipped.why.as_str(), skipped.detail));
    }
    if report.skipped.len() > SHOWN {
        let more = (report.skipped.len() - SHOWN) as u64;
        line(format_args!("  and {} more (--json shows all)", grouped(more)));
    }
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
    let (manifest, _) = manifest::load(&*target.pipeline.store).await?;
    let now = target.pipeline.clock.now();
    match output {
        Some(path) => {
            let exported = write(path, |to| hash_file::export(&manifest, now, to))
                .with_context(|| format!("{} can't be written", path.display()))?;
            let entries = if exported.entries == 1 { "entry" } else { "entries" };
            line(format_args!("{} {entries} in {}", grouped(exported.entries), path.display()));
        }
        None => match hash_file::export(&manifest, now, &mut BufWriter::new(io::stdout().lock())) {
            Ok(_) => {}
            // The reader went away, and had enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error).context("standard output can't be written"),
        },
    }
    Ok(Exit::Done)
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
