//! Real archives, where the world of them is at hand.

use super::*;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Every archive of the world with its name; none, and a line that says so, where it is not there.
fn archives() -> Vec<(String, Vec<u8>)> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/world");
    let world = std::env::var_os("OPAM_KEEP_WORLD").map_or_else(|| beside.into(), PathBuf::from);
    let Ok(listing) = std::fs::read_dir(world.join("archives")) else {
        println!("skipped: there is no world of real archives at {}", world.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// What is inside the compression.
fn inflated(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut inflated = Vec::new();
    let read = match compression {
        Compression::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut inflated),
        Compression::Bzip2 => bzip2::read::MultiBzDecoder::new(bytes).read_to_end(&mut inflated),
        _ => return bytes.to_vec(),
    };
    read.unwrap();
    inflated
}

#[test]
fn every_real_archive_is_read_to_its_end_and_is_like_itself() {
    let limits = Limits::default();
    let (mut bytes_read, mut taken, mut files) = ([0; 3], [Duration::ZERO; 3], 0);
    for (name, bytes) in archives() {
        let same = explain(&mut Cursor::new(&bytes), &mut Cursor::new(&bytes), &limits).unwrap();
        assert_eq!(same, None, "{name}");
        let start = Instant::now();
        let listing = listed(&bytes);
        let elapsed = start.elapsed();
        assert_eq!(listing.problem, None, "{name}");
        for remark in &listing.remarks {
            println!("{name} ({}): {remark}", listing.format);
        }
        files += listing.entries.len();
        let which = match listing.format.compression {
            Compression::Gzip => 0,
            Compression::Bzip2 => 1,
            _ => 2,
        };
        bytes_read[which] += listing.inflated.map_or(listing.size, |inflated| inflated.size);
        taken[which] += elapsed;
        if let Some(inflated) = listing.inflated {
            let ratio = inflated.size / listing.size.max(1);
            assert!(ratio < limits.inflation_ratio / 2, "{name}: {ratio}");
        }
    }
    for (what, (bytes, taken)) in ["gz", "bz2", "other"].iter().zip(bytes_read.iter().zip(taken)) {
        let speed = *bytes as f64 / 1e6 / taken.as_secs_f64();
        println!("{what}: {bytes} inflated bytes in {taken:?}, {speed:.0} MB/s; {files} entries");
    }
}

#[test]
fn real_archives_that_are_recompressed_or_repacked_are_seen_through() {
    let (mut seen, start) = (0, Instant::now());
    for (name, bytes) in archives().into_iter().step_by(2) {
        let listing = listed(&bytes);
        if listing.format.container != Container::Tar || bytes.len() > 1 << 20 {
            continue;
        }
        let tar = inflated(&bytes, listing.format.compression);
        for observed in [gz_level(&tar, 1), zst(&tar)] {
            let explanation = explained(&bytes, &observed);
            assert!(matches!(explanation, Explanation::Recompressed(_)), "{name}: {explanation}");
        }
        let explanation = explained(&bytes, &gz(&repacked(&tar, None)));
        let Explanation::Repacked(repacking) = &explanation else {
            panic!("{name}: {explanation}")
        };
        let top = |aspect: &Aspect| matches!(aspect, Aspect::TopFolder { .. });
        assert!(repacking.aspects.contains(&Aspect::Times), "{name}: {explanation}");
        assert_eq!(
            repacking.aspects.iter().any(top),
            listing.top.is_some(),
            "{name}: {explanation}"
        );
        let explanation = explained(&bytes, &gz(&repacked(&tar, Some(b"let evil = true\n"))));
        let content = explanation.content().unwrap_or_else(|| panic!("{name}: {explanation}"));
        assert_eq!((content.changed, content.removed), (1, 0), "{name}: {explanation}");
        assert!(explanation.unified_diff().unwrap().contains("let evil"), "{name}");
        let half = explained(&bytes, &bytes[..bytes.len() / 2]);
        assert!(matches!(half, Explanation::Truncated(_)), "{name}: {half}");
        let half = explained(&bytes, &gz_level(&tar, 1)[..bytes.len() / 2]);
        assert!(matches!(half, Explanation::Truncated(_)), "{name}: {half}");
        seen += 1;
    }
    println!("{seen} archives in {:?}", start.elapsed());
}

/// The same files in another top folder, at another time; the last text file may get more lines.
fn repacked(tar: &[u8], more: Option<&[u8]>) -> Vec<u8> {
    let is_text = |content: &[u8]| !content.contains(&0) && !content.is_empty();
    let mut entries = Vec::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let name = entry.path_bytes().into_owned();
        let target = entry.link_name_bytes().map(|target| target.into_owned());
        entries.push((entry.header().clone(), name, target, content));
    }
    if let Some(more) = more {
        let last =
            entries.iter_mut().rev().find(|it| it.0.entry_type().is_file() && is_text(&it.3));
        last.unwrap().3.extend_from_slice(more);
    }
    let mut builder = tar::Builder::new(Vec::new());
    for (mut header, name, target, content) in entries {
        if header.entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        let renamed = |name: &[u8]| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            name.split_once('/').map_or(name.clone(), |(_, rest)| format!("renamed/{rest}"))
        };
        let name = renamed(&name);
        match target {
            Some(target) if header.entry_type() == EntryType::Link => {
                builder.append_link(&mut header, name, renamed(&target)).unwrap();
            }
            Some(target) => {
                let target = String::from_utf8(target).unwrap();
                builder.append_link(&mut header, name, target).unwrap();
            }
            None => builder.append_data(&mut header, name, &content[..]).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}
