//! Not one bit of a bundle goes unchecked.

use super::*;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::frontier::Frontier;
use crate::ledger::merkle::leaf_hash;
use crate::ledger::note::{Signer, Verifier};
use crate::ledger::tile::encode_bundle;
use proptest::prelude::*;
use proptest::sample::Index;

const BLOBS: [&[u8]; 2] = [b"an archive", b""];

fn signer() -> Signer {
    Signer::from_seed("mirror.example", &[7; 32]).unwrap()
}

/// A bundle with the leaves from `from` on out of five.
fn bundle(from: usize) -> Vec<u8> {
    let leaves: Vec<Vec<u8>> = (0..5_u8).map(|number| vec![number; 3]).collect();
    let mut ledger = Frontier::default();
    leaves[..from].iter().for_each(|leaf| ledger.push(leaf_hash(leaf)));
    let start = ledger.clone();
    leaves[from..].iter().for_each(|leaf| ledger.push(leaf_hash(leaf)));
    let entries = encode_bundle(&leaves[from..]);
    let contents: Vec<&[u8]> = std::iter::once(&entries[..]).chain(BLOBS).collect();
    let member = |(place, bytes): (usize, &&[u8])| {
        let sha256 = Sha256::of(bytes);
        let path = match place {
            0 => MemberPath::Entries(from as u64),
            _ => MemberPath::Blob(sha256),
        };
        Member { path, sha256, size: bytes.len() as u64 }
    };
    let members = contents.iter().enumerate().map(member).collect();
    let manifest = Manifest {
        ledger: "mirror.example".to_owned(),
        from: start,
        size: ledger.size(),
        root: ledger.root(),
        list: Sha256::of(b""),
        extent: Extent::All,
    };
    let head = Checkpoint { origin: manifest.ledger.clone(), size: 5, root: ledger.root() };
    let (signer, head) = (signer(), head.signed(&signer()));
    let mut writer = BundleWriter::begin(Vec::new(), manifest, &head, members, &signer).unwrap();
    for mut content in contents {
        writer.write(&mut content).unwrap();
    }
    writer.end().unwrap()
}

/// The leaves and blobs of a bundle.
fn read(bytes: &[u8], key: &Verifier) -> Result<(Vec<u64>, Vec<Vec<u8>>), BundleError> {
    let mut reader = BundleReader::open(bytes, key)?;
    let mut indices = Vec::new();
    while let Some(leaves) = reader.read_entries()? {
        indices.extend(leaves.into_iter().map(|(index, _)| index));
    }
    let mut blobs = Vec::new();
    loop {
        let mut blob = Vec::new();
        let take = |chunk: &[u8]| {
            blob.extend_from_slice(chunk);
            Ok(())
        };
        match reader.read(take)? {
            Some(_) => blobs.push(blob),
            None => break,
        }
    }
    reader.end()?;
    Ok((indices, blobs))
}

#[test]
fn what_was_written_is_read() {
    for from in [0, 3, 5] {
        let (indices, blobs) = read(&bundle(from), &signer().verifier()).unwrap();
        assert_eq!(indices, (from as u64..5).collect::<Vec<_>>());
        assert_eq!(blobs, BLOBS);
    }
    assert!(bundle(3) == bundle(3));
}

#[test]
fn one_flipped_bit_anywhere_is_found() {
    let (bundle, key) = (bundle(2), signer().verifier());
    for place in 0..bundle.len() {
        for bit in 0..8 {
            let mut flipped = bundle.clone();
            flipped[place] ^= 1 << bit;
            assert!(read(&flipped, &key).is_err(), "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn a_bundle_that_is_cut_or_goes_on_is_refused() {
    let (bundle, key) = (bundle(0), signer().verifier());
    for length in (0..bundle.len()).step_by(7) {
        assert!(read(&bundle[..length], &key).is_err(), "cut after {length} bytes");
    }
    assert!(read(&[&bundle[..], &[0]].concat(), &key).is_err());
}

#[test]
fn another_key_is_refused() {
    let other = Signer::from_seed("mirror.example", &[8; 32]).unwrap().verifier();
    let error = read(&bundle(0), &other).unwrap_err();
    assert!(matches!(error, BundleError::Signature("its manifest")), "{error}");
}

#[test]
fn text_that_is_no_bundle_never_panics() {
    let key = signer().verifier();
    for bytes in [&b""[..], b"hello", &[0; 4096], &[0xff; 4096]] {
        assert!(read(bytes, &key).is_err());
    }
}

/// The same said in another way, which nobody signs.
const OTHER_FORMS: &[(&str, &str)] = &[
    ("from ", "from 0"),
    ("from ", "from +"),
    ("to ", "to 0"),
    ("to ", "to +"),
    ("\n", "\r\n"),
    ("root ", "root  "),
    ("list ", "root "),
    ("archives ", "\narchives "),
    ("archives ", "archives all\narchives "),
];

/// Lines of a manifest, right and wrong ones.
fn manifest_text() -> impl Strategy<Value = String> {
    let hash = Sha256::of(b"").to_string();
    let line = prop_oneof![
        prop::sample::select(vec![
            "ledger mirror.example".to_owned(),
            format!("peak {hash}"),
            format!("peak {}", hash.to_uppercase()),
            format!("root {hash}"),
            format!("list {hash}"),
            "archives all".to_owned(),
            "archives selected".to_owned(),
            "opam-keep bundle 1".to_owned(),
        ]),
        "(from|to) [+0]?[0-9]{1,20}",
        ".{0,9}",
    ];
    prop::collection::vec(line, 0..9).prop_map(|lines| lines.join("\n") + "\n")
}

/// The manifest of a bundle of a ledger whose entries are all empty.
fn manifest(from: u64, more: u64) -> Manifest {
    let ledger = |size: u64| {
        let mut ledger = Frontier::default();
        (0..size).for_each(|_| ledger.push(leaf_hash(b"")));
        ledger
    };
    let head = ledger(from + more);
    Manifest {
        ledger: "mirror.example".to_owned(),
        from: ledger(from),
        size: head.size(),
        root: head.root(),
        list: Sha256::of(b"list"),
        extent: if more.is_multiple_of(2) { Extent::All } else { Extent::Selected },
    }
}

proptest! {
    #[test]
    fn a_manifest_has_one_form(
        odd in manifest_text(),
        (from, more) in (0..70_u64, 0..70_u64),
        (said, otherwise) in prop::sample::select(OTHER_FORMS),
    ) {
        let manifest = manifest(from, more);
        let text = manifest.to_string();
        let other = text.replacen(said, otherwise, 1);
        prop_assert!(other != text && other.parse::<Manifest>().is_err(), "{}", other);
        prop_assert_eq!(text.parse::<Manifest>().unwrap(), manifest);
        if let Ok(manifest) = odd.parse::<Manifest>() {
            prop_assert_eq!(manifest.to_string(), odd);
        }
    }

    #[test]
    fn a_list_has_one_form(
        members in prop::collection::vec((any::<u64>(), any::<[u8; 32]>(), any::<bool>()), 0..4),
        (at, character) in (any::<Index>(), "[0-9a-f +/\n]"),
    ) {
        let member = |(size, hash, entries): &(u64, [u8; 32], bool)| {
            let sha256 = Sha256::from_bytes(*hash);
            let path =
                if *entries { MemberPath::Entries(*size) } else { MemberPath::Blob(sha256) };
            Member { path, sha256, size: *size }
        };
        let members: Vec<Member> = members.iter().map(member).collect();
        let list = member::write_list(&members);
        prop_assert_eq!(member::read_list(&list).unwrap(), members);
        let mut changed = list;
        if !changed.is_empty() {
            *at.get_mut(&mut changed) = character.as_bytes()[0];
        }
        if let Ok(members) = member::read_list(&changed) {
            prop_assert_eq!(member::write_list(&members), changed);
        }
    }

    #[test]
    fn no_damage_goes_unseen_or_panics(
        at: Index, bytes in prop::collection::vec(any::<u8>(), 1..600), over: bool
    ) {
        let (whole, key) = (bundle(2), signer().verifier());
        let mut damaged = whole.clone();
        let at = at.index(damaged.len());
        let end = if over { damaged.len().min(at + bytes.len()) } else { at };
        damaged.splice(at..end, bytes.iter().copied());
        prop_assert_eq!(read(&damaged, &key).is_ok(), damaged == whole);
        prop_assert!(read(&bytes, &key).is_err());
    }
}
