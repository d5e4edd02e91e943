//! What a reader is given while, and after, a writer died or went on.

use super::super::medium::Directory;
use super::*;
use crate::ledger::tile::encode_bundle;
use std::path::Path;
use std::sync::Mutex;

fn writer(root: &Path) -> LogWriter {
    let signer = Signer::from_seed("opam-keep/test", &[7; 32]).unwrap();
    LogWriter::open(Arc::new(Directory::create(root.to_owned()).unwrap()), signer).unwrap()
}

fn leaves(names: &str) -> Vec<Vec<u8>> {
    names.bytes().map(|name| vec![name]).collect()
}

fn tile(reader: &LogReader, path: &str) -> Option<Vec<u8>> {
    reader.tile(&path.parse().unwrap()).unwrap()
}

#[test]
fn g7_tiles_that_a_crash_left_beside_the_head_are_never_given_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    writer.append(&leaves("ab")).unwrap();
    let left = directory.path().join("tile/entries/000.p/3");
    std::fs::write(&left, encode_bundle(&leaves("abx"))).unwrap();
    let full = directory.path().join("tile/entries/000");
    std::fs::write(full, encode_bundle(&leaves(&"x".repeat(256)))).unwrap();
    let reader = writer.reader().clone();
    assert_eq!(tile(&reader, "tile/entries/000.p/3"), None);
    assert_eq!(tile(&reader, "tile/entries/000"), None);
    // The head passes over the width of what was left.
    writer.append(&leaves("cd")).unwrap();
    assert!(left.exists());
    let given = tile(&reader, "tile/entries/000.p/3");
    assert_eq!(given, Some(encode_bundle(&leaves("abc"))));
    assert_eq!(tile(&reader, "tile/entries/000.p/2"), Some(encode_bundle(&leaves("ab"))));
}

/// A ledger that grows whenever its entries are read.
struct Growing {
    ledger: Directory,
    writer: Mutex<LogWriter>,
}

impl LedgerMedium for Growing {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if path == "tile/entries/000.p/1" {
            self.writer.lock().unwrap().append(&leaves("b")).unwrap();
        }
        self.ledger.read(path)
    }

    fn write_all(&self, _: &[(String, Vec<u8>)]) -> io::Result<()> {
        unreachable!("it is only read")
    }

    fn swap_head(&self, _: Option<&[u8]>, _: &[u8]) -> Result<(), SwapError> {
        unreachable!("it is only read")
    }

    fn prune(&self, _: &[String]) {}
}

#[test]
fn g7_a_tile_is_there_for_its_reader_although_the_ledger_grows_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    writer.append(&leaves("a")).unwrap();
    let verifier = writer.reader().verifier().clone();
    let ledger = Directory::at(directory.path());
    let reader = LogReader::new(Arc::new(Growing { ledger, writer: Mutex::new(writer) }), verifier);
    assert_eq!(tile(&reader, "tile/entries/000.p/1"), Some(encode_bundle(&leaves("a"))));
    assert_eq!(reader.size().unwrap(), 2);
}
