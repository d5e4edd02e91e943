//! Archives: real ones that are small, the beginnings of others, and made ones of every form.

use crate::Corpus;
use flate2::read::GzDecoder;
use flate2::write::{DeflateEncoder, GzEncoder};
use std::io::{self, Read as _, Write as _};
use tar::{EntryType, Header};
use world::Recorded;

pub(crate) fn seed(corpus: &Corpus, recorded: Option<&Recorded>) -> io::Result<()> {
    let mut tars = vec![tar("a-1.0", "text\n"), tar("a-1.1", "text\nmore\n"), tar("b", "\0\u{1}")];
    let mut forms = vec![b"<!DOCTYPE html>\n<p>gone".to_vec(), b"let a = 1\n".to_vec()];
    for bytes in recorded.iter().flat_map(|recorded| recorded.archives()) {
        let mut beginning = Vec::new();
        // What is no gzip file has none.
        let _ = GzDecoder::new(&bytes[..]).take(BEGINNING).read_to_end(&mut beginning);
        tars.extend((beginning.len() as u64 == BEGINNING).then_some(beginning));
        forms.extend((bytes.len() <= LARGEST).then(|| bytes.to_vec()));
    }
    tars.truncate(MOST);
    for tar in &tars {
        (0..4).try_for_each(|choice| corpus.add("archive_tar", [&tar[..], &[choice]].concat()))?;
    }
    for tar in &tars[..3] {
        forms.extend([gz(tar)?, bz2(tar)?, xz(tar)?, zst(tar)]);
    }
    for bytes in &forms {
        corpus.add("archive_tar", [&bytes[..], &[0]].concat())?;
    }
    let zips = [zip("a-1.0", "text\n")?, zip("a-1.1", "text\nmore\n")?, zip("", "")?];
    for zip in &zips {
        corpus.add("archive_zip", zip)?;
        corpus.add("archive_zip", [&[0], &zip[..]].concat())?;
    }
    forms.splice(..0, tars.into_iter().chain(zips));
    for (number, pair) in forms.windows(2).enumerate() {
        add_pair(corpus, &pair[0], &pair[1], (number % 3) as u8)?;
    }
    Ok(())
}

/// Two archives after the length of the first one, and a last byte that says what is made of them.
fn add_pair(corpus: &Corpus, one: &[u8], other: &[u8], choice: u8) -> io::Result<()> {
    match u16::try_from(one.len()) {
        Ok(length) if one.len() + other.len() <= 2 * LARGEST => {
            let seed = [&length.to_be_bytes()[..], one, other, &[choice]].concat();
            corpus.add("archive_compare", seed)
        }
        _ => Ok(()),
    }
}

/// A tar archive with an entry of every kind.
fn tar(top: &str, text: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    let record = format!("path={top}/pax\n");
    let record = format!("{} {record}", record.len() + 3);
    for (kind, name, content) in [
        (EntryType::XGlobalHeader, "pax_global_header", "15 comment=abc\n"),
        (EntryType::Directory, &format!("{top}/"), ""),
        (EntryType::Regular, &format!("{top}/a.ml"), text),
        (EntryType::GNULongName, "l", &format!("{top}/long")),
        (EntryType::Regular, "short", "x"),
        (EntryType::XHeader, "x", &record),
        (EntryType::Regular, "y", "y"),
        (EntryType::Symlink, &format!("{top}/link"), ""),
        (EntryType::Link, &format!("{top}/hard"), ""),
        (EntryType::GNUSparse, &format!("{top}/sparse"), "data"),
        (EntryType::Fifo, &format!("{top}/../fifo"), ""),
    ] {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.as_mut_bytes()[157..161].copy_from_slice(b"a.ml");
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A zip archive of files that are stored, deflated and a link.
fn zip(top: &str, text: &str) -> io::Result<Vec<u8>> {
    let mut archive = rawzip::ZipArchiveWriter::new(Vec::new());
    for (name, mode, content) in
        [("a.ml", 0o644, text), ("dir/b", 0o755, "b"), ("link", 0o120_777, "a.ml")]
    {
        let name = format!("{top}/{name}");
        let method = match mode {
            0o755 => rawzip::CompressionMethod::STORE,
            _ => rawzip::CompressionMethod::DEFLATE,
        };
        let builder = archive.new_file(rawzip::path::EntryPath::verbatim(name.as_bytes()));
        let builder = builder.compression_method(method).unix_permissions(mode);
        let (mut entry, config) = builder.start().map_err(io::Error::other)?;
        let data = if method == rawzip::CompressionMethod::STORE {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(content.as_bytes())?;
            writer.finish().map_err(io::Error::other)?.1
        } else {
            let deflated = DeflateEncoder::new(&mut entry, flate2::Compression::fast());
            let mut writer = config.wrap(deflated);
            writer.write_all(content.as_bytes())?;
            let (deflated, data) = writer.finish().map_err(io::Error::other)?;
            deflated.finish()?;
            data
        };
        entry.finish(data).map_err(io::Error::other)?;
    }
    archive.finish().map_err(io::Error::other)
}

fn gz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn bz2(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn xz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut options = lzma_rust2::XzOptions::with_preset(1);
    options.lzma_options.dict_size = 1 << 16;
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// How much of a real tar archive is taken, in bytes.
const BEGINNING: u64 = 6 << 10;
/// The largest archive that is taken whole, in bytes.
const LARGEST: usize = 12 << 10;
/// The most tar archives.
const MOST: usize = 40;
