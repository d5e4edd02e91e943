//! `import FILE`: take in a bundle.

use super::named_file::problem;
use super::output::say;
use super::own_store::with_store_or_new;
use super::{Context, Failure, admin_client, output, public_key};
use crate::keeper::Keeper;
use crate::keeper::import::{self, Imported, Keep};
use crate::keeper::verify;
use crate::store::blobs::Blobs;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

/// Reads all of a bundle first; only one that is right reaches the store.
pub(super) fn run(
    context: &Context,
    file: &Path,
    key: &str,
    quiet: bool,
) -> Result<ExitCode, Failure> {
    let key = public_key::read(key)?;
    let layout = context.layout()?;
    let failed =
        |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", file.display()));
    let open = || File::open(file).map_err(|error| Failure::Usage(problem(file, &error)));
    let source = open()?;
    let length = source.metadata().map_err(|error| failed(&error))?.len();
    let bar = progress(quiet, length * 2);
    let last = match verify::reader(&layout) {
        Ok(log) => import::last_import(&log, &key).map_err(Failure::failed)?,
        // A store that is not there yet has nothing.
        Err(_) => None,
    };
    let blobs = Blobs::at(layout.clone());
    let source = BufReader::with_capacity(BUFFER, source);
    let advance = |bytes| bar.inc(bytes);
    let contents = import::read(source, &key, last.as_ref(), &blobs, Keep::Nothing, advance);
    let contents = contents.map_err(|error| failed(&error))?;
    let configured = &context.config.repository;
    let is_configured = |name: &str| configured.iter().any(|it| it.name.as_str() == name);
    contents.is_for(is_configured).map_err(|error| failed(&error))?;
    drop(contents);
    let sending = bar.clone();
    let advance = move |bytes| sending.inc(bytes);
    let sent = admin_client::send_bundle(&layout, open()?, &key.to_string(), advance)?;
    let imported: Imported = match sent {
        Some(imported) => imported,
        None => {
            let (source, bar) = (BufReader::with_capacity(BUFFER, open()?), bar.clone());
            with_store_or_new(context, async |store, clock| {
                let keeper = Keeper::open(&context.config, store, clock).map_err(Failure::usage)?;
                let imported = keeper.import(source, key, move |bytes| bar.inc(bytes)).await;
                imported.map_err(|error| failed(&error))
            })?
        }
    };
    bar.finish_and_clear();
    match context.json {
        true => output::json(&imported),
        false => print(&imported),
    }
    Ok(if imported.divergences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(imported: &Imported) {
    let Imported { entry, size, pinned, known, left_out, snapshots, unserved, divergences } =
        imported;
    for (name, versions) in snapshots {
        let are = if *versions == 1 { "is" } else { "are" };
        say!("{name}: {} {are} served", output::count(*versions, "version", "versions"));
    }
    for name in unserved {
        say!("{name}: not served, as mirror.toml has no repository of that name");
    }
    let urls = output::count(*pinned, "URL", "URLs");
    say!("{urls} pinned, {known} pinned before; ledger entry {entry}");
    if *left_out > 0 {
        say!(
            "{} not in the bundle, which has some packages only: one without --since can bring them",
            output::count(*left_out, "pin", "pins")
        );
    }
    if !divergences.is_empty() {
        let (bad, count) = (output::BAD, divergences.len() as u64);
        let urls = output::count(count, "URL was", "URLs were");
        say!("{bad}{urls} pinned to other bytes here{bad:#}: opam-keep divergences");
    }
    say!("The next bundle:  opam-keep export --out FILE --since {size}");
}

/// A key as it is printed, or a file that has it.
fn progress(quiet: bool, bytes: u64) -> ProgressBar {
    let target = match quiet {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style)
}

const BUFFER: usize = 1 << 20;
