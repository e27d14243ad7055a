//! `bottles export` and `bottles import`: what is new, across an air gap.

use std::sync::Arc;

use anyhow::Context as _;
use common::airgap::{
    Bundles, ExportError, Exported, Exporter, IMPORTS, ImportError, Imported, Importer, Imports, Outcome,
    Progress, Target,
};
use common::clock::Clock;
use common::manifest;
use common::mirror::MemoryBudget;
use common::run::Count;
use common::size::ByteSize;
use common::store::{Folder, Store};
use jiff::Timestamp;
use serde::Serialize;

use crate::args::{ExportOptions, ImportOptions, StoreOption};
use crate::destination::Destination;
use crate::output::{self, Exit, Usage, counted, line};
use crate::place::{self, Local};
use crate::{progress, publish, stop};

/// How much of bottles an import has in memory.
const MEMORY: u64 = 64 << 20;

#[derive(Serialize)]
struct Answer<'a> {
    /// What became of each, in order.
    bundles: &'a [Imported],
}

pub(crate) async fn export(options: ExportOptions) -> anyhow::Result<Exit> {
    let ExportOptions { from, since, to, split, json, store } = options;
    let target = Target::of(&to, split.is_some()).map_err(of_export)?;
    let store = open_store(&from, &store).await?;
    let source = Exporter { store, clock: Clock::system(), progress: Progress::default() };
    let exporting = source.export(&since, &target, split.map(|size| size.0));
    let exporting = progress::while_carrying(&source.progress, json, exporting);
    let exported = tokio::select! {
        exported = exporting => exported.map_err(of_export)?,
        stopped = stop::asked() => {
            stopped?;
            anyhow::bail!("stopped; nothing is left of the bundle");
        }
    };
    if json {
        output::json(&exported)?;
    } else {
        describe_export(&exported, &from);
    }
    Ok(Exit::Done)
}

pub(crate) async fn import(options: ImportOptions) -> anyhow::Result<Exit> {
    let ImportOptions { bundle, again, json, place } = options;
    let Some(to) = &place.to else {
        return Err(Usage("name the mirror with --to: a folder, or s3://BUCKET".to_owned()).into());
    };
    if !bundle.exists() {
        return Err(Usage(format!("{}: there is no such file or folder", bundle.display())).into());
    }
    // Before anything is made: a bundle that can't be the first leaves no folder behind.
    let bundles = Bundles::find(&bundle).await.map_err(of_import)?;
    if !place::holds_mirror(to, &place).await? && !was_imported(to, &place.store).await? {
        bundles.check_first().await.map_err(of_import)?;
    }
    let local = Local::open(to, &place).await?;
    let target = Importer {
        settler: local.settler(),
        memory: MemoryBudget::new(MEMORY),
        progress: Progress::default(),
        again,
    };
    let importing = progress::while_carrying(&target.progress, json, target.import(&bundles));
    let imported = tokio::select! {
        imported = importing => imported.map_err(of_import)?,
        stopped = stop::asked() => {
            stopped?;
            anyhow::bail!("stopped; the same command goes on where this one was");
        }
    };
    if json {
        output::json(&Answer { bundles: &imported })?;
    } else {
        for bundle in &imported {
            describe_import(bundle);
        }
        if let Some(last) = imported.last() {
            describe_mirror(last, missing(&imported), to);
        } else {
            line("Imported     nothing to do: no bundle is whole, and none is needed");
        }
    }
    Ok(exit(&imported))
}

/// Whether all of it was applied, and nothing of it waits.
fn exit(imported: &[Imported]) -> Exit {
    let is_waiting = imported.last().is_some_and(|last| {
        last.indexes_waiting > 0 || last.held_since.is_some() || !last.publication.waiting.is_empty()
    });
    if is_waiting || missing(imported).bottles > 0 { Exit::Attention } else { Exit::Done }
}

/// What the other mirror has and this one lacks, by the bundle that knows most of it.
fn missing(imported: &[Imported]) -> Count {
    imported.iter().map(|bundle| bundle.missing).max_by_key(|missing| missing.bottles).unwrap_or_default()
}

/// Refuses a mirror that bundles are imported into.
pub(crate) async fn check_not_imported(local: &Local) -> anyhow::Result<()> {
    if Imports::load(&*local.pipeline.store).await?.is_none() {
        return Ok(());
    }
    Err(Usage(
        "the mirror is fed by `bottles import`, and a mirror is fed by one of both; \
         to have it synced from now on, remove _sync/imports.json there"
            .to_owned(),
    )
    .into())
}

/// Whether bundles were imported into a mirror, whatever is left of it.
async fn was_imported(to: &Destination, options: &StoreOption) -> anyhow::Result<bool> {
    Ok(match to {
        Destination::Folder(root) => root.join(IMPORTS).is_file(),
        Destination::Bucket(location) => {
            Imports::load(&place::bucket(location, options).await).await.map_err(of_import)?.is_some()
        }
    })
}

/// A mirror that is there, without its queues.
async fn open_store(from: &Destination, options: &StoreOption) -> anyhow::Result<Arc<dyn Store>> {
    let none = || Usage(format!("{from} holds no mirror"));
    Ok(match from {
        Destination::Folder(root) if !root.join(manifest::KEY).is_file() => return Err(none().into()),
        Destination::Folder(root) => Arc::new(Folder::open(root)?),
        Destination::Bucket(location) => {
            let store = place::bucket(location, options).await;
            store.check().await.with_context(|| format!("{location} can't be used"))?;
            Arc::new(store)
        }
    })
}

fn of_export(error: ExportError) -> anyhow::Error {
    if error.is_usage() { Usage(error.to_string()).into() } else { error.into() }
}

fn of_import(error: ImportError) -> anyhow::Error {
    if error.is_usage() { Usage(error.to_string()).into() } else { error.into() }
}

fn describe_export(exported: &Exported, from: &Destination) {
    line(format_args!("Bundle       {}", exported.interval));
    let (bottles, indexes) = (exported.bottles, exported.indexes);
    line(format_args!("Bottles      {}, {}", counted(bottles.bottles, "bottle"), ByteSize(bottles.bytes)));
    line(format_args!("Indexes      {}", counted(indexes, "image index")));
    line(format_args!("API          {}", counted(exported.api_files, "file")));
    for file in &exported.files {
        line(format_args!("Written      {}, {}", file.path.display(), ByteSize(file.bytes)));
    }
    if exported.open_runs > 0 {
        line(format_args!(
            "Not settled  {}: what is on its way comes with the next bundle",
            counted(exported.open_runs as u64, "run")
        ));
    }
    if exported.indexes_later > 0 {
        line(format_args!(
            "Replaced     {} meanwhile: they come with the next bundle",
            counted(exported.indexes_later, "image index")
        ));
    }
    if exported.expired > 0 {
        line(format_args!(
            "Expired      {} that upstream dropped long ago",
            counted(exported.expired, "bottle")
        ));
    }
    line(format_args!("Next         {}", next_export(&from.to_string(), exported.interval.until)));
}

fn describe_import(imported: &Imported) {
    line(format_args!("Bundle       {}", imported.interval));
    if imported.outcome == Outcome::NothingNew {
        line("Imported     nothing to do: all of it was imported before");
        return;
    }
    let (bottles, found) = (imported.bottles, imported.found);
    line(format_args!("Imported     {}, {}", counted(bottles.bottles, "bottle"), ByteSize(bottles.bytes)));
    if found.bottles > 0 {
        line(format_args!("Found        {}, {}", counted(found.bottles, "bottle"), ByteSize(found.bytes)));
    }
    line(format_args!("Indexes      {} put in place", counted(imported.indexes as u64, "image index")));
    line(format_args!("API          {}", counted(imported.api_files, "file")));
    publish::describe_published(&imported.publication);
}

fn describe_mirror(imported: &Imported, missing: Count, to: &Destination) {
    let held = imported.held;
    line(format_args!("Holds        {}, {}", counted(held.bottles, "bottle"), ByteSize(held.bytes)));
    if imported.indexes_waiting > 0 {
        let waiting = counted(imported.indexes_waiting as u64, "image index");
        line(format_args!("Waiting      {waiting}, for bottles that are not here"));
    }
    publish::describe_waiting(&imported.publication);
    if let Some(since) = imported.held_since {
        publish::describe_held(since, &format!("--to {to}"));
    }
    if missing.bottles > 0 {
        line(format_args!(
            "Missing      {}, {}, that the other mirror has",
            counted(missing.bottles, "bottle"),
            ByteSize(missing.bytes)
        ));
        line("             bring them with `bottles export --since start`, then `bottles import --again`");
    }
    let until = imported.mirror_until.unwrap_or(imported.interval.until);
    line(format_args!("Next         {}", next_export("PLACE", until)));
}

fn next_export(from: &str, until: Timestamp) -> String {
    format!("bottles export --from {from} --since {until} --to FILE.tar.zst")
}
