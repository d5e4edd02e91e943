//! `prove`: the proof that the ledger has a pin of a file or checksum.

use super::{Context, Failure, output};
use crate::keeper::proof::{Proved, prove};
use crate::keeper::verify;
use crate::ledger::entry::{Entry, Pin};
use crate::opam::{Checksum, ChecksumKind};
use crate::store::blobs;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// What `prove` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A file, or a checksum: sha256=…, or its digits alone
    subject: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let reader = verify::reader(&context.layout()?).map_err(Failure::Usage)?;
    let checksum = checksum_of(&arguments.subject)?;
    let size = reader.size().map_err(Failure::failed)?;
    let mut found = None;
    for entry in reader.entries(0, size) {
        let (index, entry) = entry.map_err(Failure::failed)?;
        if let Entry::Pin(pin) = entry
            && is_of(&pin, &checksum)
        {
            found = Some((index, pin));
            break;
        }
    }
    let Some((index, pin)) = found else {
        let sentence = match size {
            0 => "the ledger has no entry yet".to_owned(),
            _ => format!("{}: no pin in the ledger has {checksum}", arguments.subject),
        };
        return Err(Failure::Failed(sentence));
    };
    let Proved { leaf, proof } = prove(&reader, index).map_err(Failure::failed)?;
    let text = String::from_utf8_lossy(&proof.to_bytes()).into_owned();
    if context.json {
        let leaf = String::from_utf8_lossy(&leaf);
        output::json(&json!({ "index": index, "leaf": leaf, "proof": text }));
        return Ok(ExitCode::SUCCESS);
    }
    // What a person reads goes beside the proof, so that the proof can go into a file.
    output::aside(&format!("entry {index}: {} pinned at {}", pin.url, pin.at));
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::failed)?;
    Ok(ExitCode::SUCCESS)
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
