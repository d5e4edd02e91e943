//! Bytes under a name: never others, never replaced, never taken for durable too soon.

use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn blobs() -> (tempfile::TempDir, Blobs) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    std::fs::create_dir(layout.work()).unwrap();
    let blobs = Blobs::new(layout, 0).unwrap();
    (directory, blobs)
}

#[test]
fn g2_bytes_that_are_kept_stay_as_they_are() {
    let (_directory, blobs) = blobs();
    let name = blobs.put(b"archive").unwrap();
    let mut writer = blobs.writer().unwrap();
    writer.write(b"arch").unwrap();
    writer.write(b"ive").unwrap();
    let again = writer.finish();
    assert_eq!(again.digests().sha256, name);
    blobs.keep(again).unwrap();
    assert_eq!(blobs.read(&name, 100).unwrap(), b"archive");
    assert_eq!(blobs.open(&name).unwrap().size, 7);
    assert_eq!(std::fs::read_dir(blobs.layout.work()).unwrap().count(), 0);
}

#[test]
fn a_damaged_blob_is_never_opened_even_if_it_was_sound_before() {
    let (_directory, blobs) = blobs();
    let name = blobs.put(b"archive").unwrap();
    blobs.open(&name).unwrap();
    assert!(blobs.open_if_checked(&name).is_some());
    let path = blobs.layout.blob(&name);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"brchive").unwrap();
    assert!(blobs.open_if_checked(&name).is_none());
    assert!(matches!(blobs.open(&name), Err(BlobError::Damaged { .. })));
    assert!(matches!(blobs.read(&name, 100), Err(BlobError::Damaged { .. })));
}

#[test]
fn g3_a_name_that_is_not_known_to_be_durable_is_written_again() {
    let (_directory, blobs) = blobs();
    let name = blobs.put(b"archive").unwrap();
    let inode = || std::fs::metadata(blobs.layout.blob(&name)).unwrap().ino();
    let keep = || {
        let mut writer = blobs.writer().unwrap();
        writer.write(b"archive").unwrap();
        blobs.keep(writer.finish()).unwrap();
    };
    let durable = inode();
    keep();
    assert_eq!(inode(), durable);

    let elsewhere = blobs.pending.begin(vec![name]);
    keep();
    let kept = inode();
    assert_ne!(kept, durable);
    blobs.put(b"archive").unwrap();
    let put = inode();
    assert_ne!(put, kept);
    elsewhere.durable();
    keep();
    assert_eq!(inode(), put);

    // As after a sync that failed.
    drop(blobs.pending.begin(vec![name]));
    keep();
    assert_ne!(inode(), put);
}

#[test]
fn what_is_no_regular_file_is_never_waited_for_nor_followed_nor_taken_for_a_blob() {
    let (directory, blobs) = blobs();
    let name = Sha256::of(b"archive");
    let path = blobs.layout.blob(&name);
    let target = directory.path().join("target");
    std::fs::write(&target, b"archive").unwrap();
    let irregular = |what: &str| {
        let error = blobs.open(&name).unwrap_err().to_string();
        assert!(error.ends_with("is no regular file"), "{what}: {error}");
        assert!(blobs.open_if_checked(&name).is_none(), "{what}");
        assert!(blobs.read(&name, 100).is_err(), "{what}");
    };
    std::fs::create_dir(&path).unwrap();
    irregular("a directory");
    assert!(blobs.put(b"archive").is_err());
    std::fs::remove_dir(&path).unwrap();

    std::os::unix::fs::symlink(&target, &path).unwrap();
    irregular("a link");
    blobs.put(b"archive").unwrap();
    assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    std::fs::remove_file(&path).unwrap();

    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    irregular("a FIFO");
    let mut writer = blobs.writer().unwrap();
    writer.write(b"archive").unwrap();
    blobs.keep(writer.finish()).unwrap();
    assert_eq!(blobs.read(&name, 100).unwrap(), b"archive");
}

#[test]
fn many_blobs_are_kept_at_once_and_only_new_ones_are_written() {
    let (_directory, blobs) = blobs();
    let files: Vec<Vec<u8>> = (0..20).map(|i| vec![b'a' + i; 10]).collect();
    let named = || files.iter().map(|bytes| (Sha256::of(bytes), &bytes[..]));
    assert_eq!(blobs.put_all(named()).unwrap(), 20);
    assert_eq!(blobs.put_all(named()).unwrap(), 0);
    assert!(named().all(|(name, _)| blobs.open(&name).is_ok()));
}
