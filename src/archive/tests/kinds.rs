//! One kind of explanation after the other.

use super::*;

#[test]
fn the_same_bytes_need_no_explanation() {
    let limits = Limits::default();
    for bytes in [Tar::package("foo-1.0").gz(), b"text".to_vec(), Vec::new()] {
        let same = explain(&mut Cursor::new(&bytes), &mut Cursor::new(&bytes), &limits);
        assert_eq!(same.unwrap(), None);
    }
}

#[test]
fn another_compression_of_the_same_bytes_is_recompressed() {
    let tar = Tar::package("foo-1.0").bytes();
    let forms = [tar.clone(), gz(&tar), bz2(&tar), xz(&tar), zst(&tar)];
    for pinned in &forms {
        for observed in forms.iter().filter(|observed| *observed != pinned) {
            let explanation = explained(pinned, observed);
            assert!(matches!(explanation, Explanation::Recompressed(_)), "{explanation}");
        }
    }
    assert_eq!(
        said(&forms[2], &forms[1]),
        "recompressed: the same tar inside; it was tar.bz2 and is tar.gz"
    );
    assert_eq!(
        said(&gz_level(&tar, 9), &gz_level(&tar, 1)),
        "recompressed: the same tar inside, tar.gz of another making"
    );
}

#[test]
fn several_members_or_one_make_no_difference() {
    let tar = Tar::package("foo-1.0").bytes();
    for compress in [gz, bz2, xz, zst] {
        let parts: Vec<u8> = tar.chunks(700).flat_map(compress).collect();
        let explanation = explained(&gz_level(&tar, 9), &parts);
        assert!(matches!(explanation, Explanation::Recompressed(_)), "{explanation}");
    }
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zst(&tar)].concat();
    assert!(said(&tar, &skippable).starts_with("recompressed"));
}

#[test]
fn what_a_server_compressed_once_more_is_recompressed() {
    let archive = Tar::package("foo-1.0").gz();
    for (pinned, observed) in [(archive.clone(), gz(&archive)), (gz(&archive), archive)] {
        let explanation = said(&pinned, &observed);
        assert!(explanation.starts_with("recompressed: the same bytes inside"), "{explanation}");
    }
}

#[test]
fn a_renamed_top_folder_is_repacked() {
    let (was, is) = (Tar::package("foo-1.0"), Tar::package("foo-abcdef"));
    assert_eq!(
        said(&was.gz(), &is.gz()),
        "repacked: the same 3 files; the top folder was foo-1.0 and is foo-abcdef"
    );
    let flat = Tar::default()
        .file("dune-project", b"(lang dune 3.0)\n")
        .file("src/a.ml", b"let a = 1\nlet b = 2\nlet c = 3\n")
        .file("./logo.png", b"\x89PNG\r\n\x1a\n\0\0\0");
    let explanation = said(&was.gz(), &flat.gz());
    assert!(
        explanation
            .starts_with("repacked: the same 3 files; the top folder was foo-1.0 and is gone"),
        "{explanation}"
    );
    let only_src = Tar::default().file("src/a.ml", b"a").gz();
    let below = Tar::default().file("foo/src/a.ml", b"a").gz();
    assert!(said(&only_src, &below).starts_with("repacked: the same file; the top folder was src"));
}

#[test]
fn every_aspect_of_repacking_is_said() {
    let base = |change: fn(&mut Header)| {
        Tar::default()
            .with(EntryType::Directory, "p/", b"", |_| {})
            .with(EntryType::Regular, "p/a", b"a", change)
            .file("p/b", b"b")
    };
    let pinned = base(|_| {}).gz();
    let reversed =
        Tar::default().entry(EntryType::Directory, "p/", b"").file("p/b", b"b").file("p/a", b"a");
    let folder = base(|_| {}).entry(EntryType::Directory, "p/empty/", b"");
    let old = base(|_| {}).bytes();
    for (observed, aspects) in [
        (base(|header| header.set_mtime(7)), vec![Aspect::Times]),
        (base(|header| header.set_uid(1000)), vec![Aspect::Owners]),
        (base(|header| header.set_username("me").unwrap()), vec![Aspect::Owners]),
        (base(|header| header.set_mode(0o664)), vec![Aspect::Modes]),
        (reversed, vec![Aspect::Order]),
        (folder, vec![Aspect::Folders]),
        (Tar([&old[..], &[0; 512]].concat()), vec![Aspect::Encoding]),
        (base(|header| header.set_device_major(1).unwrap()), vec![Aspect::Encoding]),
    ] {
        let Explanation::Repacked(repacked) = explained(&pinned, &observed.gz()) else {
            panic!("{aspects:?}");
        };
        assert_eq!((repacked.files, repacked.aspects), (2, aspects));
    }
}

#[test]
fn the_commit_that_git_archive_notes_is_said() {
    let with = |commit: &str| {
        let record = format!("19 comment={commit}\n");
        Tar::default()
            .entry(EntryType::XGlobalHeader, "pax_global_header", record.as_bytes())
            .file("p/a", b"a")
            .gz()
    };
    assert_eq!(
        said(&with("aaaaaaa"), &with("bbbbbbb")),
        "repacked: the same file; the archive's comment was aaaaaaa and is bbbbbbb"
    );
}

#[test]
fn a_zip_of_the_same_files_is_repacked_and_another_deflate_recompressed() {
    let files: [(&str, u32, &[u8]); 2] = [("p/a", 0o644, b"a text\n"), ("p/b", 0o755, b"b text\n")];
    let deflated = zip(&files);
    let stored = zip_with(&files, rawzip::CompressionMethod::STORE);
    assert_eq!(
        said(&deflated, &stored),
        "recompressed: the same entries inside, zip of another making"
    );
    let tar = Tar::default().file("p/a", b"a text\n").with(
        EntryType::Regular,
        "p/b",
        b"b text\n",
        |header| header.set_mode(0o755),
    );
    let explanation = said(&tar.gz(), &deflated);
    assert!(
        explanation.starts_with("repacked: the same 2 files; it was tar.gz and is zip"),
        "{explanation}"
    );
    let changed = zip(&[files[0], ("p/b", 0o755, b"c text\n")]);
    assert!(said(&tar.gz(), &changed).starts_with("content: 1 changed of 2 files (b)"));
}

#[test]
fn changed_added_and_removed_files_are_named_and_their_lines_compared() {
    let was = Tar::package("foo-1.0").file("foo-1.0/old", b"old\n");
    let is = Tar::default()
        .entry(EntryType::Directory, "foo-1.0/", b"")
        .file("foo-1.0/dune-project", b"(lang dune 3.0)\n")
        .file("foo-1.0/src/a.ml", b"let a = 1\nlet b = 20\nlet c = 3\n")
        .file("foo-1.0/logo.png", b"\x89PNG\r\n\x1a\n\0\0\x01")
        .file("foo-1.0/new", b"new\n");
    let explanation = explained(&was.gz(), &bz2(&is.bytes()));
    assert_eq!(
        explanation.to_string(),
        "content: 2 changed, 1 added, 1 removed of 5 files (logo.png, src/a.ml, new, …)"
    );
    let diff = explanation.unified_diff().unwrap();
    let expected = "--- pinned/src/a.ml\n+++ observed/src/a.ml\n@@ -1,3 +1,3 @@\n let a = 1\n\
                    -let b = 2\n+let b = 20\n let c = 3\n";
    assert!(diff.contains(expected), "{diff}");
    assert!(diff.contains("--- /dev/null\n+++ observed/new\n@@ -0,0 +1 @@\n+new\n"), "{diff}");
    assert!(diff.contains("--- pinned/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n"), "{diff}");
    assert!(diff.contains("Changed logo.png\n  was 11 bytes, sha256 "), "{diff}");
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["kind"], "content");
    assert_eq!(json["changes"][0]["lines"]["diff"], "binary");
    assert_eq!(json["changes"][2]["is"]["type"], "file");
}

#[test]
fn an_executable_bit_is_content_and_so_are_link_targets() {
    let with = |mode: u32, symlink: &str, hard: &str| {
        Tar::default()
            .with(EntryType::Regular, "p/configure", b"#!\n", |header| header.set_mode(mode))
            .link(EntryType::Symlink, "p/link", symlink)
            .link(EntryType::Link, "p/hard", hard)
            .gz()
    };
    let pinned = with(0o644, "configure", "p/configure");
    for (observed, file) in [
        (with(0o755, "configure", "p/configure"), "configure"),
        (with(0o4644, "configure", "p/configure"), "configure"),
        (with(0o644, "/bin/sh", "p/configure"), "link"),
        (with(0o644, "configure", "p/link"), "hard"),
    ] {
        let explanation = explained(&pinned, &observed);
        let content = explanation.content().unwrap();
        assert_eq!((content.changed, &content.changes[0].path[..]), (1, file));
        assert_eq!(content.changes[0].lines, TextDiff::NoContent);
    }
    let renamed = Tar::default()
        .file("q/configure", b"#!\n")
        .link(EntryType::Symlink, "q/link", "configure")
        .link(EntryType::Link, "q/hard", "q/configure")
        .gz();
    assert!(said(&pinned, &renamed).starts_with("repacked"), "the target moves with the folder");
}

#[test]
fn what_ends_early_is_truncated() {
    let big: Vec<u8> =
        (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let package = Tar::package("foo-1.0").file("foo-1.0/big", &big);
    let tar = package.bytes();
    for whole in [tar.clone(), gz(&tar), bz2(&tar), xz(&tar), zst(&tar)] {
        let half = &whole[..whole.len() / 2];
        let explanation = said(&whole, half);
        assert!(explanation.starts_with("truncated: the first"), "{explanation}");
        let another = if whole[0] == 0x1f { bz2(&tar) } else { gz_level(&tar, 1) };
        let explanation = explained(&another, half);
        assert!(matches!(explanation, Explanation::Truncated(_)), "{explanation}");
        assert!(
            explanation.to_string().contains("until then, none of 3 files differs"),
            "{explanation}"
        );
        assert!(explanation.is_partial());
    }
    let zipped = zip_with(&[("a", 0o644, &big)], rawzip::CompressionMethod::STORE);
    assert!(said(&tar, &zipped[..zipped.len() - 50]).starts_with("truncated"));
}

#[test]
fn pages_and_error_documents_are_no_archives() {
    let archive = Tar::package("foo-1.0").gz();
    for (observed, expected) in [
        (&b"<!doctype html><title>Sign in</title>"[..], "an HTML page, titled \"Sign in\""),
        (b"{\"message\": \"Bad credentials\"}", "a JSON document, which says \"Bad credentials\""),
        (
            b"<?xml version=\"1.0\"?><Error><Message>Denied</Message></Error>",
            "an XML document, which says \"Denied\"",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "text, which begins with \"version https://git-lfs.github.com/spec/v1\"",
        ),
        (b"", "nothing at all"),
        (b"\0\x01\x02", "bytes of no known format"),
    ] {
        for pinned in [&archive[..], b"--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n"] {
            let explanation = explained(pinned, observed);
            let is_content = matches!(explanation, Explanation::Content(_));
            if pinned == archive || !is_content {
                assert_eq!(explanation.to_string(), format!("not-an-archive: {expected}"));
            }
        }
        if !observed.is_empty() {
            let compressed = explained(&archive, &gz(observed)).to_string();
            assert_eq!(compressed, format!("not-an-archive: {expected}"));
        }
    }
}

#[test]
fn plain_files_are_compared_by_lines_or_as_a_whole() {
    let (was, is) = (b"--- a\n+++ b\n-x\n+y\n", b"--- a\n+++ b\n-x\n+z\n");
    let explanation = explained(was, is);
    assert_eq!(explanation.to_string(), "content: the file itself changed");
    let diff = explanation.unified_diff().unwrap();
    assert!(
        diff.ends_with(
            "--- pinned\n+++ observed\n@@ -1,4 +1,4 @@\n --- a\n +++ b\n -x\n-+y\n++z\n"
        ),
        "{diff}"
    );
    let binary = explained(b"\0one", b"\0two");
    assert_eq!(binary.content().unwrap().changes[0].lines, TextDiff::Binary);
    assert!(binary.unified_diff().unwrap().contains("was 4 bytes, sha256"));
    assert!(said(was, &gz(was)).starts_with("recompressed: the same bytes inside"));
    assert!(said(was, &Tar::package("p").gz()).starts_with("content: 3 added, 1 removed"));
    let pages = said(b"<html><title>a</title>", b"<html><title>b</title>");
    assert_eq!(pages, "content: the file itself changed", "both are pages");
}

#[test]
fn damage_is_unreadable_and_the_answer_partial() {
    let package = Tar::package("foo-1.0");
    let mut damaged = package.bytes();
    let at = damaged.len() - 1024 - 1024;
    damaged[at] ^= 1;
    let is = package.bytes();
    let explanation = explained(&gz(&is), &gz(&damaged));
    assert_eq!(
        explanation.to_string(),
        "unreadable: what was observed can't be compared: it is damaged: the checksum of a tar \
         header is wrong; as far as it was read, none of 2 files differs"
    );
    assert!(explanation.is_partial());
    let other_way = said(&gz(&damaged), &gz(&is));
    assert!(other_way.starts_with("unreadable: what was pinned can't be compared"), "{other_way}");
    for compress in [gz, bz2, xz, zst] {
        let mut bytes = compress(&is);
        let at = bytes.len() / 2;
        bytes[at] ^= 0x55;
        let explanation = explained(&is, &bytes);
        assert!(
            matches!(explanation, Explanation::Unreadable(_) | Explanation::Truncated(_)),
            "{explanation}"
        );
    }
}

#[test]
fn a_failing_reader_is_no_damage() {
    struct Failing(u64);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 >= 100 {
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the deadline"));
            }
            let count = buffer.len().min(100);
            let bytes = Tar::package("p").gz();
            buffer[..count].copy_from_slice(&bytes[self.0 as usize..][..count]);
            self.0 += count as u64;
            Ok(count)
        }
    }
    impl std::io::Seek for Failing {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            if let std::io::SeekFrom::Start(to) = to {
                self.0 = to;
            }
            Ok(1000)
        }
    }
    let error = list(&mut Failing(0), &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "the deadline");
    let mut pinned = Cursor::new(Tar::package("p").gz());
    let error = explain(&mut pinned, &mut Failing(0), &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "the deadline");
}
