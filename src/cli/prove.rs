//! `prove`: the proof that the ledger has a pin of a file or checksum, and its check.

use super::output::say;
use super::{Context, Failure, named_file, output, public_key};
use crate::keeper::{proof, verify};
use crate::ledger::entry::{Entry, Pin};
use crate::ledger::note::Verifier;
use crate::ledger::proof::MAX_TEXT;
use crate::opam::{Checksum, ChecksumKind};
use crate::store::blobs;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `prove` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// A file, or a checksum: sha256=…, or its digits alone
    subject: String,
    /// Check this proof of it instead, as prove or a page of the mirror gave it
    #[arg(long, value_name = "PROOF")]
    check: Option<PathBuf>,
    /// With --check: the public key of the ledger, or a file with it, in place of this store's own
    #[arg(long, value_name = "KEY", requires = "check")]
    key: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let checksum = checksum_of(&arguments.subject)?;
    match &arguments.check {
        Some(proof) => check(context, arguments, &checksum, proof),
        None => print(context, &arguments.subject, &checksum),
    }
}

fn print(context: &Context, subject: &str, checksum: &Checksum) -> Result<ExitCode, Failure> {
    let reader = verify::reader(&context.layout()?).map_err(Failure::Usage)?;
    let size = reader.size().map_err(Failure::failed)?;
    let mut found = None;
    for entry in reader.entries(0, size) {
        let (index, entry) = entry.map_err(Failure::failed)?;
        if let Entry::Pin(pin) = entry
            && is_of(&pin, checksum)
        {
            found = Some((index, pin));
            break;
        }
    }
    let Some((index, pin)) = found else {
        let sentence = match size {
            0 => "the ledger has no entry yet".to_owned(),
            _ => format!("{subject}: no pin in the ledger has {checksum}"),
        };
        return Err(Failure::Failed(sentence));
    };
    let proof = proof::prove(&reader, index).map_err(Failure::failed)?;
    let text = String::from_utf8_lossy(&proof.to_bytes()).into_owned();
    if context.json {
        let leaf = String::from_utf8_lossy(&proof.leaf);
        output::json(&json!({ "index": index, "leaf": leaf, "proof": text }));
        return Ok(ExitCode::SUCCESS);
    }
    // What a person reads goes beside the proof, so that the proof can go into a file.
    output::aside(&format!("entry {index}: {} pinned at {}", pin.url, pin.at));
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn check(
    context: &Context,
    arguments: &Arguments,
    checksum: &Checksum,
    path: &Path,
) -> Result<ExitCode, Failure> {
    let key = match &arguments.key {
        Some(key) => public_key::read(key)?,
        None => own_key(context)?,
    };
    let text = named_file::read(path, MAX_TEXT)?;
    let failed = |why: String| Failure::Failed(format!("{}: {why}", path.display()));
    let (index, entry, checkpoint) =
        proof::check(&text, &key).map_err(|error| failed(error.to_string()))?;
    let pin = match entry {
        Entry::Pin(pin) if is_of(&pin, checksum) => pin,
        _ => {
            let subject = &arguments.subject;
            return Err(failed(format!("proves entry {index}, which is no pin of {subject}")));
        }
    };
    if context.json {
        let entry = Entry::Pin(pin).to_json();
        output::json(&json!({ "index": index, "entry": entry, "size": checkpoint.size }));
        return Ok(ExitCode::SUCCESS);
    }
    say!("{}proved{:#}: {} pinned at {}", output::GOOD, output::GOOD, pin.url, pin.at);
    say!("  entry {index} of {} in the ledger {}", checkpoint.size, checkpoint.origin);
    Ok(ExitCode::SUCCESS)
}

fn own_key(context: &Context) -> Result<Verifier, Failure> {
    let reader = verify::reader(&context.layout()?);
    let reader =
        reader.map_err(|why| Failure::Usage(format!("{why}; or give the key as --key")))?;
    Ok(reader.verifier().clone())
}

fn checksum_of(subject: &str) -> Result<Checksum, Failure> {
    let is_bare = subject.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kind = ChecksumKind::ALL.into_iter().find(|kind| kind.hex_len() == subject.len());
    if let Some(kind) = kind.filter(|_| is_bare && !Path::new(subject).exists())
        && let Ok(checksum) = format!("{kind}={subject}").parse()
    {
        return Ok(checksum);
    }
    let not_a_checksum = match subject.parse::<Checksum>() {
        Ok(checksum) => return Ok(checksum),
        Err(error) => error,
    };
    if subject.contains('=') && !Path::new(subject).exists() {
        return Err(Failure::Usage(format!("{subject}: {not_a_checksum}")));
    }
    let hashed = File::open(Path::new(subject)).and_then(|file| blobs::hash_file(&file));
    match hashed {
        Ok(digests) => Ok(Checksum::Sha256(digests.sha256)),
        Err(error) => Err(Failure::Usage(format!(
            "\"{subject}\": {error}: name a file, or a checksum such as sha256=…"
        ))),
    }
}

fn is_of(pin: &Pin, checksum: &Checksum) -> bool {
    match checksum {
        Checksum::Md5(digest) => pin.md5 == *digest,
        Checksum::Sha256(digest) => pin.sha256 == *digest,
        Checksum::Sha512(digest) => pin.sha512 == *digest,
    }
}

const AFTER_HELP: &str = "\
A proof is a text (C2SP tlog-proof): the ledger's entry, and what leads from it to a signed checkpoint. \
Whoever has it and the ledger's public key needs no mirror to check it, then or in ten years.

  opam-keep prove foo-1.0.tbz > foo-1.0.tbz.tlog-proof
  opam-keep prove foo-1.0.tbz --check foo-1.0.tbz.tlog-proof --key KEY";
