//! Archives for tests, and what they have in common.

mod any_bytes;
mod hostile;
mod kinds;
mod odd;
mod real;

use super::{
    Aspect, Compression, Container, Document, EntryKind, Explanation, Limits, Listing, NameFlag,
    Problem, Remark, TextDiff, explain, list,
};
use flate2::write::{DeflateEncoder, GzEncoder};
use std::io::{Cursor, Write};
use tar::{EntryType, Header};

/// A tar archive under construction; names go into the headers just as they are.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// A small package in a top folder of its own.
    fn package(top: &str) -> Self {
        Self::default()
            .entry(EntryType::Directory, &format!("{top}/"), b"")
            .file(&format!("{top}/dune-project"), b"(lang dune 3.0)\n")
            .file(&format!("{top}/src/a.ml"), b"let a = 1\nlet b = 2\nlet c = 3\n")
            .file(&format!("{top}/logo.png"), b"\x89PNG\r\n\x1a\n\0\0\0")
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, content)
    }

    fn link(self, entry_type: EntryType, name: &str, target: &str) -> Self {
        self.with(entry_type, name, b"", |header| {
            header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        })
    }

    fn entry(self, entry_type: EntryType, name: &str, content: &[u8]) -> Self {
        self.with(entry_type, name, content, |_| {})
    }

    fn with(
        mut self,
        entry_type: EntryType,
        name: &str,
        content: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(entry_type);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        header.set_uid(0);
        header.set_gid(0);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// With the end mark.
    fn bytes(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }

    fn gz(&self) -> Vec<u8> {
        gz(&self.bytes())
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    gz_level(bytes, 6)
}

fn gz_level(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    xz_with(bytes, 1 << 20)
}

fn xz_with(bytes: &[u8], window: u32) -> Vec<u8> {
    let mut options = lzma_rust2::XzOptions::with_preset(1);
    options.lzma_options.dict_size = window;
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A zip of files with their modes.
fn zip(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    zip_with(files, rawzip::CompressionMethod::DEFLATE)
}

fn zip_with(files: &[(&str, u32, &[u8])], method: rawzip::CompressionMethod) -> Vec<u8> {
    let mut archive = rawzip::ZipArchiveWriter::new(Vec::new());
    for (name, mode, content) in files {
        let builder = archive.new_file(rawzip::path::EntryPath::verbatim(name.as_bytes()));
        let (mut entry, config) =
            builder.compression_method(method).unix_permissions(*mode).start().unwrap();
        let data = if method == rawzip::CompressionMethod::DEFLATE {
            let encoder = DeflateEncoder::new(&mut entry, flate2::Compression::default());
            let mut writer = config.wrap(encoder);
            writer.write_all(content).unwrap();
            let (encoder, data) = writer.finish().unwrap();
            encoder.finish().unwrap();
            data
        } else {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(content).unwrap();
            writer.finish().unwrap().1
        };
        entry.finish(data).unwrap();
    }
    archive.finish().unwrap()
}

fn explained(pinned: &[u8], observed: &[u8]) -> Explanation {
    within(pinned, observed, &Limits::default())
}

/// The explanation, which also has to survive being written and read.
fn within(pinned: &[u8], observed: &[u8], limits: &Limits) -> Explanation {
    let explanation = explain(&mut Cursor::new(pinned), &mut Cursor::new(observed), limits);
    let explanation = explanation.unwrap().expect("they differ");
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
    explanation
}

fn said(pinned: &[u8], observed: &[u8]) -> String {
    explained(pinned, observed).to_string()
}

fn listed(bytes: &[u8]) -> Listing {
    listed_within(bytes, &Limits::default())
}

fn listed_within(bytes: &[u8], limits: &Limits) -> Listing {
    list(&mut Cursor::new(bytes), limits).unwrap()
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> usize {
    from + bytes[from..].windows(what.len()).position(|window| window == what).unwrap()
}
