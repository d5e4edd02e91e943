//! `export --static`: the mirror as plain files.

use super::export::Arguments;
use super::output::say;
use super::{Context, Failure, output};
use crate::digest::Sha256;
use crate::keeper::static_files::{StaticFiles, What};
use crate::keeper::verify;
use crate::safe_url::SafeUrl;
use crate::store::blobs::Blobs;
use crate::store::layout::Layout;
use crate::store::tree_writer::{self, TreeError, TreeWriter, Written};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// How many files there are.
    files: u64,
    /// How many of them were there before.
    unchanged: u64,
    /// How many are hard links.
    linked: u64,
    /// How many were written.
    copied: u64,
    /// How many that were there are no more.
    removed: u64,
    /// How many archives are declared and not kept.
    missing: u64,
    /// What is left out because its blob is damaged or gone, each with the reason.
    damaged: BTreeMap<Sha256, String>,
}

pub(super) fn run(
    context: &Context,
    root: &Path,
    arguments: &Arguments,
) -> Result<ExitCode, Failure> {
    let layout = context.layout()?;
    let log = verify::reader(&layout).map_err(Failure::Usage)?;
    keep_apart(root, &layout)?;
    let is_place = |url: &SafeUrl| {
        let url = url.expose();
        matches!(url.scheme(), "http" | "https") && url.query().or(url.fragment()).is_none()
    };
    if arguments.url.as_ref().is_some_and(|url| !is_place(url)) {
        return Err(Failure::usage(
            "--url is no https:// or http:// URL that paths can be added to",
        ));
    }
    let blobs = Blobs::at(layout.clone());
    let site = arguments.url.as_ref().map(ToString::to_string);
    let what = What { site, unpacked: arguments.unpacked || was_unpacked(root, arguments) };
    let files = StaticFiles::of(&log, &blobs, &context.config, &what);
    let files = files.map_err(Failure::failed)?;
    let done = write(&files, &blobs, &layout, root, arguments);
    let done = done.map_err(|error| match error {
        TreeError::Foreign(_) | TreeError::Present(_) => Failure::usage(error),
        _ => Failure::failed(error),
    })?;
    if context.json {
        output::json(&done);
    } else {
        print(&done, root);
    }
    Ok(if done.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether an update is of an export that was unpacked, which others may go by since.
fn was_unpacked(root: &Path, arguments: &Arguments) -> bool {
    // Below the root, or below the name of a repository.
    let is_of_packages = |path: &str| path.split('/').take(2).any(|part| part == "packages");
    arguments.update && tree_writer::has_written(root, is_of_packages)
}

/// Nothing is ever written into a store, nor a store served as files.
fn keep_apart(root: &Path, layout: &Layout) -> Result<(), Failure> {
    let resolved = |path: &Path| {
        let there = path.ancestors().find_map(|above| above.canonicalize().ok().zip(Some(above)));
        there.map_or(path.to_owned(), |(real, above)| {
            real.join(path.strip_prefix(above).unwrap_or(Path::new("")))
        })
    };
    let absolute = std::path::absolute(root).map_err(Failure::usage)?;
    let goes_up = root.components().any(|part| part == std::path::Component::ParentDir);
    if goes_up && !root.exists() {
        let sentence = format!("{}: write it without .., or make it first", root.display());
        return Err(Failure::Usage(sentence));
    }
    let (root, store) = (resolved(&absolute), resolved(layout.root()));
    match root.starts_with(&store) || store.starts_with(&root) {
        true => Err(Failure::Usage(format!(
            "{} and the store {} are one inside the other: name another directory",
            root.display(),
            store.display()
        ))),
        false => Ok(()),
    }
}

fn write(
    files: &StaticFiles,
    blobs: &Blobs,
    layout: &Layout,
    root: &Path,
    arguments: &Arguments,
) -> Result<Done, TreeError> {
    let mut done = Done { missing: files.missing, ..Done::default() };
    let mut tree = TreeWriter::begin(root, arguments.update, files.names())?;
    let bar = progress(arguments.quiet, files.archives.len() as u64);
    for (path, name) in &files.archives {
        bar.inc(1);
        let blob = layout.blob(name);
        if tree.is_current(path, &blob) {
            done.count(Written::Unchanged);
        } else if let Err(error) = blobs.open(name) {
            tree.leave_out(path);
            done.damaged.insert(*name, error.to_string());
        } else {
            done.count(tree.link(path, &blob)?);
        }
    }
    bar.finish_and_clear();
    tree.sync()?;
    for (path, bytes) in &files.metadata {
        done.count(tree.write(path, bytes)?);
    }
    done.removed = tree.end()?;
    Ok(done)
}

impl Done {
    fn count(&mut self, written: Written) {
        self.files += 1;
        match written {
            Written::Unchanged => self.unchanged += 1,
            Written::Linked => self.linked += 1,
            Written::Copied => self.copied += 1,
        }
    }
}

fn print(done: &Done, root: &Path) {
    let Done { files, unchanged, linked, copied, removed, missing, damaged } = done;
    let files = output::count(*files, "file", "files");
    say!("{}: {files}", root.display());
    say!("  {copied} written, {linked} linked, {unchanged} as before, {removed} removed");
    if *missing > 0 {
        let archives = output::count(*missing, "archive is", "archives are");
        say!("{archives} not kept yet, so not among them:  opam-keep sync --all");
    }
    let bad = output::BAD;
    for (name, problem) in damaged {
        say!("{bad}left out{bad:#}: {name}: {problem}");
    }
}

fn progress(quiet: bool, files: u64) -> ProgressBar {
    let target = match quiet {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files{left}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("left", output::left);
    ProgressBar::with_draw_target(Some(files), target).with_style(style)
}
