//! `import`: take in archives that are at hand already.

use super::offers::{Offer, Offers};
use super::output::say;
use super::own_store::with_store_or_new;
use super::{Context, Failure, admin_client, import_bundle, output, sync};
use crate::keeper::Keeper;
use crate::keeper::offered::{Interest, Taken};
use crate::keeper::selector::{Packages, Selector};
use crate::opam::{Checksum, ChecksumKind};
use crate::server::admin::Syncing;
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use url::Url;

/// What `import` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// A bundle, as opam-keep export writes it
    #[arg(value_name = "FILE", requires = "key")]
    bundle: Option<PathBuf>,
    /// The public key that must have signed the bundle, as export prints it, or a file that has it
    #[arg(long, value_name = "KEY", requires = "bundle")]
    key: Option<String>,
    /// Archives in a directory that opam admin cache wrote, or a client's ~/.opam/download-cache
    #[arg(long, value_name = "DIR", conflicts_with_all = ["bundle", "from"])]
    cache: Option<PathBuf>,
    /// Archives of another mirror, by the URL of its cache, such as https://opam.ocaml.org/cache
    #[arg(long, value_name = "URL", value_parser = cache_url, conflicts_with = "bundle")]
    from: Option<Url>,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    if let (Some(bundle), Some(key)) = (&arguments.bundle, &arguments.key) {
        return import_bundle::run(context, bundle, key, arguments.quiet);
    }
    match (&arguments.cache, &arguments.from) {
        (Some(directory), _) => {
            let offers = Offers::read(directory).map_err(Failure::Usage)?;
            let report = import(context, &offers, Report::new(context.json, arguments.quiet))?;
            Ok(report.end())
        }
        (None, Some(cache)) => {
            let selector = Selector { repository: None, packages: Packages::All };
            let syncing = Syncing { selector, is_dry: false, cache: Some(cache.clone()) };
            sync::carry_out(context, syncing, arguments.quiet, Default::default())
        }
        (None, None) => {
            Err(Failure::Usage("say what: a bundle, --cache DIR or --from URL".to_owned()))
        }
    }
}

fn cache_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "a mirror's cache is https://host/cache".to_owned())
}

/// Offers the files by their strongest names first: what was taken by one is kept by the others.
fn import(context: &Context, offers: &Offers, mut report: Report) -> Result<Report, Failure> {
    let layout = context.layout()?;
    for kind in [ChecksumKind::Sha512, ChecksumKind::Sha256, ChecksumKind::Md5] {
        for batch in offers.of(kind).chunks(BATCH) {
            let checksums: Vec<Checksum> = batch.iter().map(|it| it.checksum).collect();
            let interest = admin_client::tell(&layout, http::Method::POST, "/offers", &checksums)?;
            let Some(interest) = interest else { return import_here(context, offers, report) };
            for offer in report.wanted(batch, interest) {
                let taken = admin_client::send_file(&layout, offer);
                report.take(offer, taken.map_err(|failure| failure.to_string()));
            }
        }
    }
    Ok(report)
}

/// No server runs, so this process takes the store.
fn import_here(context: &Context, offers: &Offers, mut report: Report) -> Result<Report, Failure> {
    with_store_or_new(context, async |store, clock| {
        let keeper = Keeper::open(&context.config, store, clock).map_err(Failure::usage)?;
        if keeper.repositories().iter().all(|it| it.served().is_none()) {
            keeper.begin(None).await.map_err(Failure::failed)?;
        }
        for kind in [ChecksumKind::Sha512, ChecksumKind::Sha256, ChecksumKind::Md5] {
            for batch in offers.of(kind).chunks(BATCH) {
                let checksums = batch.iter().map(|it| it.checksum).collect();
                let interest = keeper.interest(checksums).await.map_err(Failure::failed)?;
                for offer in report.wanted(batch, interest) {
                    let taken = match offer.open() {
                        Ok((origin, chunks)) => {
                            let taken = keeper.take_offered(offer.checksum, origin, chunks);
                            taken.await.map_err(|error| error.to_string())
                        }
                        Err(error) => Err(error.to_string()),
                    };
                    report.take(offer, taken);
                }
            }
        }
        Ok(report)
    })
}

/// What is printed on the way, and what there is to say in the end.
struct Report {
    as_json: bool,
    bar: ProgressBar,
    taken: u64,
    bytes: u64,
    kept: u64,
    undeclared: u64,
    problems: Vec<(PathBuf, String)>,
}

impl Report {
    fn new(as_json: bool, quiet: bool) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} archives, {msg}");
        let bar = ProgressBar::with_draw_target(Some(0), target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let problems = Vec::new();
        Self { as_json, bar, taken: 0, bytes: 0, kept: 0, undeclared: 0, problems }
    }

    /// Counts what is not wanted, and hands on what is.
    fn wanted<'a>(&mut self, batch: &'a [Offer], interest: Vec<Interest>) -> Vec<&'a Offer> {
        let mut wanted = Vec::new();
        for (offer, interest) in batch.iter().zip(interest) {
            match interest {
                Interest::Wanted => wanted.push(offer),
                Interest::Kept => self.kept += 1,
                Interest::Undeclared => self.undeclared += 1,
            }
        }
        self.bar.inc_length(wanted.len() as u64);
        wanted
    }

    fn take(&mut self, offer: &Offer, taken: Result<Taken, String>) {
        let (file, checksum) = (&offer.path, &offer.checksum);
        match taken {
            Ok(Taken { packages, entry, size }) => {
                self.taken += 1;
                self.bytes += size;
                if self.as_json {
                    let line = json!({ "file": file, "checksum": checksum.to_string(),
                                       "packages": packages, "entry": entry, "size": size });
                    self.bar.suspend(|| output::json(&line));
                }
            }
            Err(problem) => {
                if self.as_json {
                    let line = json!({ "file": file, "checksum": checksum.to_string(),
                                       "problem": problem });
                    self.bar.suspend(|| output::json(&line));
                }
                self.problems.push((file.clone(), problem));
            }
        }
        self.bar.set_message(HumanBytes(self.bytes).to_string());
        self.bar.inc(1);
    }

    fn end(self) -> ExitCode {
        self.bar.finish_and_clear();
        let Self { taken, bytes, kept, undeclared, problems, .. } = &self;
        if self.as_json {
            output::json(&json!({ "imported": taken, "bytes": bytes, "kept": kept,
                                  "undeclared": undeclared, "refused": problems.len() }));
        } else {
            for (file, problem) in problems {
                say!("{}not taken{:#}  {}", output::BAD, output::BAD, file.display());
                say!("  {problem}");
            }
            let archives = output::count(*taken, "archive", "archives");
            let names = output::count(*undeclared, "name", "names");
            say!(
                "{archives} imported ({}), {kept} kept already, {names} that no package declares",
                HumanBytes(*bytes)
            );
        }
        if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

const AFTER_HELP: &str = "\
A bundle is read whole first, and reaches the store only when its signature, every byte of it and its \
ledger are right, and it goes on where the last one ended.

From caches, what the repositories, as they are served now, declare and what is not kept yet is taken: every declared \
checksum must hold. A file that a directory has under its md5 alone is kept under all of its hashes.

  opam-keep import farm.bundle --key mirror.pub
  opam-keep import --cache ~/.opam/download-cache
  opam-keep import --from https://opam.ocaml.org/cache

Exits with 1 when something was not taken that should have been.";
/// So many names are asked about at a time.
const BATCH: usize = 4_096;
