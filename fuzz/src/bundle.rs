//! Bundles: every byte of one that is taken follows from what is in it.

use opam_keep::bundle::{BundleError, BundleReader, BundleWriter, Manifest};
use opam_keep::digest::Sha256;
use opam_keep::ledger::note::{Signer, Verifier};
use tar::{EntryType, Header};

/// The key whose signatures are believed.
pub fn signer() -> Signer {
    Signer::from_seed("mirror.example", &[7; 32]).expect("a good name")
}

/// A bundle as it is; or, split at zeros, the texts of manifest, checkpoint and list, which are
/// signed and hashed here so that what is behind signatures is tried too, and what follows them.
pub fn bundle(bytes: &[u8]) {
    let key = signer().verifier();
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(manifest) = text.parse::<Manifest>()
    {
        assert_eq!(manifest.to_string(), text);
    }
    let _ = read(bytes, &key);
    let Some(signed) = signed(bytes) else { return };
    let Ok(parts) = read(&signed, &key) else { return };
    let members = parts.members.iter().map(|(member, _)| *member).collect();
    let writer =
        BundleWriter::begin(Vec::new(), parts.manifest, &parts.checkpoint, members, &signer());
    let mut writer = writer.expect("memory takes it");
    for (_, content) in &parts.members {
        writer.write(&mut &content[..]).expect("what was read can be written");
    }
    assert!(writer.end().expect("every member was written") == signed);
}

/// Everything that is in a bundle.
struct Parts {
    manifest: Manifest,
    checkpoint: Vec<u8>,
    members: Vec<(opam_keep::bundle::Member, Vec<u8>)>,
}

fn read(bytes: &[u8], key: &Verifier) -> Result<Parts, BundleError> {
    let mut reader = BundleReader::open(bytes, key)?;
    let (manifest, checkpoint) = (reader.manifest().clone(), reader.checkpoint().to_vec());
    reader.watch(manifest.size);
    let mut members = Vec::new();
    let listed = reader.left().to_vec();
    for member in listed {
        let mut content = Vec::new();
        if let Some(leaves) = reader.read_entries()? {
            let leaves: Vec<Vec<u8>> = leaves.into_iter().map(|(_, leaf)| leaf).collect();
            content = opam_keep::ledger::tile::encode_bundle(&leaves);
        } else {
            reader.read(|chunk| {
                content.extend_from_slice(chunk);
                Ok(())
            })?;
        }
        assert_eq!((content.len() as u64, Sha256::of(&content)), (member.size, member.sha256));
        members.push((member, content));
    }
    assert!(reader.left().is_empty());
    let root = reader.watched();
    reader.end()?;
    assert_eq!(root, Some(manifest.root));
    Ok(Parts { manifest, checkpoint, members })
}

/// A bundle of which signatures and the hash of the list are right.
fn signed(input: &[u8]) -> Option<Vec<u8>> {
    let mut parts = input.splitn(4, |byte| *byte == 0);
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let (manifest, checkpoint, list) = (text()?, text()?, text()?);
    let rest = parts.next()?;
    let hash = format!("list {}", Sha256::of(list.as_bytes()));
    let manifest: String = manifest
        .split_inclusive('\n')
        .map(|line| if line.starts_with("list ") { format!("{hash}\n") } else { line.to_owned() })
        .collect();
    let signer = signer();
    let mut tar = Vec::new();
    for (path, content) in [
        ("manifest", signer.sign(&manifest)),
        ("checkpoint", signer.sign(checkpoint)),
        ("list", list.as_bytes().to_vec()),
    ] {
        let mut header = Header::new_ustar();
        header.set_path(path).ok()?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend_from_slice(rest);
    Some(tar)
}
