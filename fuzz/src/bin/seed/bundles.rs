//! Bundles, whole and as the parts of which their target makes one.

use crate::{Corpus, ledger};
use opam_keep::bundle::{BundleWriter, Extent, Manifest, Member, MemberPath};
use opam_keep::digest::Sha256;
use opam_keep::ledger::checkpoint::Checkpoint;
use opam_keep::ledger::frontier::Frontier;
use opam_keep::ledger::merkle::leaf_hash;
use opam_keep::ledger::tile::encode_bundle;
use opam_keep_fuzz::signer;
use std::io;

pub(crate) fn seed(corpus: &Corpus) -> io::Result<()> {
    let leaves = ledger::leaves()?;
    for from in [0, 3, leaves.len()] {
        write(corpus, &leaves, from)?;
    }
    Ok(())
}

/// A bundle with the leaves from `from` on, and two blobs.
fn write(corpus: &Corpus, leaves: &[Vec<u8>], from: usize) -> io::Result<()> {
    let mut ledger = Frontier::default();
    leaves[..from].iter().for_each(|leaf| ledger.push(leaf_hash(leaf)));
    let start = ledger.clone();
    leaves[from..].iter().for_each(|leaf| ledger.push(leaf_hash(leaf)));
    let entries = encode_bundle(&leaves[from..]);
    let mut contents = vec![&b"an archive"[..], b""];
    if from < leaves.len() {
        contents.insert(0, &entries);
    }
    let member = |bytes: &&[u8]| {
        let sha256 = Sha256::of(bytes);
        let is_entries = **bytes == entries[..] && !bytes.is_empty();
        let path = match is_entries {
            true => MemberPath::Entries(from as u64),
            false => MemberPath::Blob(sha256),
        };
        Member { path, sha256, size: bytes.len() as u64 }
    };
    let members: Vec<Member> = contents.iter().map(member).collect();
    let manifest = Manifest {
        ledger: signer().name().to_owned(),
        from: start,
        size: ledger.size(),
        root: ledger.root(),
        list: Sha256::of(b""),
        extent: if from == 0 { Extent::All } else { Extent::Selected },
    };
    let head =
        Checkpoint { origin: manifest.ledger.clone(), size: manifest.size, root: manifest.root };
    let list: String = members
        .iter()
        .map(|member| format!("{} {} {}\n", member.sha256, member.size, member.path))
        .collect();
    let parts = format!("{manifest}\0{head}\0{list}\0");
    let signed = head.signed(&signer());
    let begun = BundleWriter::begin(Vec::new(), manifest.clone(), &signed, members, &signer());
    let mut writer = begun.map_err(io::Error::other)?;
    for mut content in contents {
        writer.write(&mut content).map_err(io::Error::other)?;
    }
    let whole = writer.end().map_err(io::Error::other)?;
    // Manifest and checkpoint take two blocks each, the list as many as its length says.
    let rest = 2 * 1024 + 512 + list.len().next_multiple_of(512);
    corpus.add("bundle", [parts.as_bytes(), &whole[rest..]].concat())?;
    corpus.add("bundle", manifest.to_string())?;
    corpus.add("bundle", whole)
}
