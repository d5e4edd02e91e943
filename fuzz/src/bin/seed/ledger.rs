//! Entries of every kind, tiles, notes and proofs, as opam-keep writes them.

use crate::Corpus;
use opam_keep::digest::{Digests, Sha256};
use opam_keep::ledger::checkpoint::Checkpoint;
use opam_keep::ledger::edge::Edge;
use opam_keep::ledger::entry::Entry;
use opam_keep::ledger::proof::{TextProof, TileTree};
use opam_keep_fuzz::signer;
use serde_json::{Value, json};
use std::io;

pub(crate) fn seed(corpus: &Corpus) -> io::Result<()> {
    let leaves = leaves()?;
    for leaf in &leaves {
        corpus.add("ledger_entry", leaf)?;
    }
    // More than one tile wide, so that there is a level above.
    let many: Vec<Vec<u8>> =
        leaves.iter().cloned().chain((0..300_u16).map(|n| n.to_be_bytes().into())).collect();
    for leaves in [&leaves[..1], &leaves, &many] {
        let growth = Edge::default().grow(leaves).map_err(io::Error::other)?;
        for (path, bytes) in &growth.tiles {
            corpus.add("tile", [path.to_string().as_bytes(), b"\n", bytes].concat())?;
        }
        let size = growth.edge.size();
        let head =
            Checkpoint { origin: signer().name().to_owned(), size, root: growth.edge.root() };
        let note = head.signed(&signer());
        corpus.add("note", &note)?;
        corpus.add("note", head.to_string())?;
        let mut tree = TileTree::new(size, |path| {
            growth.tiles.iter().find(|tile| tile.0 == *path).map(|tile| tile.1.clone()).ok_or(())
        });
        for index in [0, size / 2, size - 1] {
            let Ok(hashes) = tree.inclusion(index) else { continue };
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
            let numbers = [size, index, index + 1].map(u64::to_le_bytes).concat();
            corpus.add("proof", [numbers, bytes].concat())?;
            let leaf = leaves.get(index as usize).cloned().unwrap_or_default();
            let proof = TextProof { leaf, index, hashes, checkpoint: note.clone() };
            corpus.add("proof", proof.to_bytes())?;
        }
    }
    let two = [signer().sign("a\n1\n\n"), b"\xe2\x80\x94 other AAAAAAAA\n".to_vec()].concat();
    corpus.add("note", two)?;
    corpus.add("note", signer().verifier().to_string())
}

/// An entry of each kind, some with everything that such an entry may say.
pub(crate) fn leaves() -> io::Result<Vec<Vec<u8>>> {
    let Digests { md5, sha256, sha512, size } = Digests::of(b"archive");
    let (url, key) = ("https://a.example/a.tar.gz", signer().verifier().to_string());
    let all = [
        json!({"kind": "key", "name": "mirror.example", "vkey": key}),
        json!({"kind": "pin", "repository": "default", "packages": ["a.1"], "url": url, "src": url,
            "from": url, "sha256": sha256, "sha512": sha512, "md5": md5, "size": size,
            "declared": [format!("md5={md5}")], "strength": "weak", "agreed": [url], "import": 3}),
        json!({"kind": "pin", "repository": "default", "url": url, "from": url, "sha256": sha256,
            "sha512": sha512, "md5": md5, "size": size, "strength": "none"}),
        json!({"kind": "snapshot", "repository": "default", "upstream": url, "revision": "abc",
            "mode": "managed", "files": sha256, "admitted": sha256, "strengthened": sha256,
            "departed": sha256, "index": sha256, "versions": 7, "import": 1,
            "past": {"since": AT, "until": AT}}),
        json!({"kind": "divergence", "repository": "default", "packages": ["a.1", "b.2"],
            "url": url, "src": url, "from": url, "what": "mismatch", "edits": ["build"],
            "expected": [format!("sha256={sha256}")], "held": true, "evidence": sha256,
            "observed": {"sha256": sha256, "size": size}, "detail": "other bytes"}),
        json!({"kind": "decision", "divergence": 4, "action": "accept", "by": "me", "why": "é"}),
        json!({"kind": "recheck", "repository": "default", "packages": ["a.1"], "url": url,
            "sha256": sha256, "outcome": "moved", "before": "gone", "divergence": 4,
            "detail": "it is elsewhere"}),
        json!({"kind": "history", "repository": "default", "revision": "abc", "list": sha256,
            "urls": 9}),
        json!({"kind": "import", "key": key, "from": 0, "size": 5, "root": Sha256::of(b""),
            "checkpoint": "a\n5\n"}),
        json!({"kind": "witness", "who": ["me", {"a": null}]}),
    ];
    all.into_iter().map(leaf).collect()
}

fn leaf(mut entry: Value) -> io::Result<Vec<u8>> {
    entry["v"] = 1.into();
    entry["at"] = AT.into();
    let leaf = serde_json::to_vec(&entry)?;
    Entry::from_leaf(&leaf)
        .map(|_| leaf)
        .map_err(|error| io::Error::other(format!("{error}: {entry}")))
}

const AT: &str = "2026-11-22T22:47:26Z";
