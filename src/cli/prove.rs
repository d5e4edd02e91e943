//! `prove`: the proof that the ledger has a pin of a file or checksum.

use super::{Context, Failure, output};
use crate::keeper::verify;
use crate::ledger::entry::{Entry, Pin};
use crate::ledger::merkle::leaf_hash;
use crate::ledger::proof::{TextProof, TileTree, verify_inclusion};
use crate::opam::Checksum;
use crate::store::blobs;
use crate::store::log::LogError;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// What `prove` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A file, or a checksum such as sha256=…
    subject: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let reader = verify::reader(&context.layout()?).map_err(Failure::Usage)?;
    let checksum = checksum_of(&arguments.subject)?;
    let Some((checkpoint, note)) = reader.checkpoint().map_err(Failure::failed)? else {
        return Err(Failure::Failed("the ledger has no entry yet".to_owned()));
    };
    let mut found = None;
    for leaf in reader.leaves(0, checkpoint.size) {
        let (index, leaf) = leaf.map_err(Failure::failed)?;
        if let Ok(Entry::Pin(pin)) = Entry::from_leaf(&leaf)
            && is_of(&pin, &checksum)
        {
            found = Some((index, leaf, pin));
            break;
        }
    }
    let Some((index, leaf, pin)) = found else {
        let sentence = format!("{}: no pin in the ledger has {checksum}", arguments.subject);
        return Err(Failure::Failed(sentence));
    };
    let mut tree = TileTree::new(checkpoint.size, |path| {
        reader.tile(path)?.ok_or_else(|| LogError::Missing(path.to_string()))
    });
    let hashes = tree.inclusion(index).map_err(Failure::failed)?;
    if !verify_inclusion(&hashes, index, leaf_hash(&leaf), checkpoint.size, checkpoint.root) {
        return Err(Failure::Failed(
            "the ledger's tiles do not fit its checkpoint: run opam-keep verify".to_owned(),
        ));
    }
    let proof = TextProof { index, hashes, checkpoint: note };
    let text = String::from_utf8_lossy(&proof.to_bytes()).into_owned();
    if context.json {
        let leaf = String::from_utf8_lossy(&leaf);
        output::json(&json!({ "index": index, "leaf": leaf, "proof": text }));
        return Ok(ExitCode::SUCCESS);
    }
    // What a person reads goes beside the proof, so that the proof can go into a file.
    anstream::eprintln!("entry {index}: {} pinned at {}", pin.url, pin.at);
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn checksum_of(subject: &str) -> Result<Checksum, Failure> {
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
