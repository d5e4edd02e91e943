//! A witness of a ledger: it keeps every checkpoint that it sees, and adds up the leaves itself.

use crate::deadline::within;
use crate::raw;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// What somebody outside remembers of a ledger.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// The root hash at each size that was ever signed.
    roots: BTreeMap<u64, String>,
}

impl Witness {
    /// Looks at the checkpoint that is served now; panics where the ledger went back or forked.
    ///
    /// Whoever does not answer is not judged.
    pub fn look(&mut self, client: &raw::Client) {
        let Some(text) = get(client, "/ledger/checkpoint") else { return };
        let text = String::from_utf8(text).expect("a checkpoint is text");
        let mut lines = text.lines().skip(1);
        let size = lines.next().and_then(|line| line.parse().ok()).expect("a checkpoint's size");
        let root = lines.next().expect("a checkpoint's root hash").to_owned();
        let newest = self.newest();
        assert!(size >= newest, "the ledger went back from {newest} entries to {size}");
        let known = self.roots.entry(size).or_insert_with(|| root.clone());
        assert_eq!(*known, root, "two roots of {size} entries: the ledger forked");
    }

    /// Reads all leaves and adds them up to every root that was ever seen.
    pub fn check(&mut self, client: &raw::Client) {
        within(Duration::from_secs(30), "a ledger that does not grow meanwhile", || {
            self.look(client);
            self.add_up(client)
        });
    }

    /// Nothing when the last, partial bundle gave way to a wider one.
    fn add_up(&self, client: &raw::Client) -> Option<()> {
        let mut tree = Tree::default();
        for bundle in 0..self.newest().div_ceil(BUNDLE) {
            let begin = bundle * BUNDLE;
            let width = (self.newest() - begin).min(BUNDLE);
            for leaf in leaves(client, bundle, width)? {
                tree.add(&leaf);
                if let Some(root) = self.roots.get(&tree.size) {
                    assert_eq!(tree.root(), *root, "the root of the first {} entries", tree.size);
                }
            }
        }
        assert_eq!(tree.size, self.newest(), "entries are missing");
        Some(())
    }

    /// How many different checkpoints were seen.
    pub fn seen(&self) -> usize {
        self.roots.len()
    }

    fn newest(&self) -> u64 {
        self.roots.last_key_value().map_or(0, |(size, _)| *size)
    }
}

/// An RFC 6962 tree, as far as its right edge needs.
#[derive(Default)]
struct Tree {
    size: u64,
    /// Roots of the full subtrees, the largest first.
    full: Vec<[u8; 32]>,
}

impl Tree {
    fn add(&mut self, leaf: &[u8]) {
        let mut hash: [u8; 32] =
            Sha256::new().chain_update([0]).chain_update(leaf).finalize().into();
        let mut size = self.size;
        while size % 2 == 1 {
            hash = node(&self.full.pop().expect("a subtree for each bit"), &hash);
            size /= 2;
        }
        self.full.push(hash);
        self.size += 1;
    }

    fn root(&self) -> String {
        let mut subtrees = self.full.iter().rev().copied();
        let smallest = subtrees.next().expect("a tree that is asked has leaves");
        base64(&subtrees.fold(smallest, |right, left| node(&left, &right)))
    }
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The leaves of one bundle, as tlog-tiles serves them.
fn leaves(client: &raw::Client, bundle: u64, width: u64) -> Option<Vec<Vec<u8>>> {
    let mut path = format!("/ledger/tile/entries/{}", tile_number(bundle));
    if width < BUNDLE {
        path.push_str(&format!(".p/{width}"));
    }
    let bytes = get(client, &path)?;
    let mut rest = bytes.as_slice();
    let mut leaves = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (leaf, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        leaves.push(leaf.to_vec());
        rest = after;
    }
    Some(leaves)
}

/// `1234067` as `x001/x234/067`.
fn tile_number(mut number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    while number >= 1000 {
        number /= 1000;
        path = format!("x{:03}/{path}", number % 1000);
    }
    path
}

fn get(client: &raw::Client, path: &str) -> Option<Vec<u8>> {
    let answer = client.get(path).ok()?;
    if answer.status != 200 {
        return None;
    }
    answer.body().ok()
}

fn base64(bytes: &[u8; 32]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(char::from(alphabet[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text.push_str(["", "=", "=="][(3 - bytes.len() % 3) % 3]);
    text
}

/// Entries in a full bundle.
const BUNDLE: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_those_of_rfc_6962() {
        // From the test vectors of the certificate-transparency reference implementation.
        let mut tree = Tree::default();
        tree.add(b"");
        assert_eq!(tree.root(), "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=");
        tree.add(&[0]);
        assert_eq!(tree.root(), "+sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU=");
        assert_eq!(tile_number(1_234_067), "x001/x234/067");
    }
}
