//! What readers of tar understand differently.

use super::*;

#[test]
fn extended_headers_that_readers_disagree_about_are_refused() {
    let pax = |records: &[u8]| Tar::repository().entry(EntryType::XHeader, "x", records);
    let comment = Tar::repository().entry(EntryType::XGlobalHeader, "g", b"13 comment=x\n");
    assert!(comment.read().is_ok());
    let harmless = pax(b"11 mtime=1\n9 size=1\n20 SCHILY.xattr.a=b\n25 path=packages/a/a.1/x\n");
    assert!(harmless.clone().file("y", b"z").read().unwrap().file("packages/a/a.1/x").is_some());
    // A Mac has attributes of any bytes at every file.
    let binary = pax(b"23 SCHILY.xattr.a=\x01\n\x02\n\n25 path=packages/a/a.1/x\n");
    assert!(binary.file("y", b"z").read().unwrap().file("packages/a/a.1/x").is_some());
    for header in [&b"11 path=ab\n"[..], b"nonsense", b"13 comment=x\n\n11 path=ab\n"] {
        let global = Tar::repository().entry(EntryType::XGlobalHeader, "g", header);
        assert!(global.error().contains("extended header"), "{}", global.error());
    }
    for records in [
        &b"20 path=a\nb\n"[..],
        b"12 path=a\nb\n",
        b"19 path=packages/x\n19 path=packages/y\n",
        b"19 path=packages/x\n\n19 path=packages/y\n",
        b"+19 path=packages/x\n",
        b"19 path=packages/x\n\0",
        b"19 path=packages/x",
        b"99999999999999999999 path=x\n",
        b"10 size=1\n10 size=2\n",
        b"4 =\n",
        b"22 SCHILY.realsize=12\n",
        b"34 SCHILY.xattr.a=\x01\n14 path=evil\n\n",
        b"17 comment=a\n1 b\n",
        b"17 linkpath=repo\n",
        b"9 size=2\n",
        b"11 size=01\n",
        b"29 size=18446744073709551615\n",
    ] {
        let error = pax(records).file("packages/a/b", b"x").error();
        assert!(error.contains("extended header"), "{error}");
    }
    let error = pax(b"9 size=0\n").entry(EntryType::Directory, "packages/", b"").error();
    let fault = "its extended header has a size, and it is no regular file";
    assert_eq!(error, format!("readers of tar disagree about the entry \"packages/\": {fault}"));
    for (between, content) in [
        (EntryType::GNULongName, &b"packages/y\0"[..]),
        (EntryType::XHeader, b"19 path=packages/y\n"),
        (EntryType::XGlobalHeader, b"13 comment=x\n"),
    ] {
        let hidden = pax(b"19 path=packages/x\n").entry(between, "x", content);
        let error = hidden.file("z", b"x").error();
        assert!(error.ends_with("\"x\": no file or directory follows this extended header"));
    }
    let long = Tar::repository().entry(EntryType::GNULongLink, "x", b"target\0");
    assert!(long.file("z", b"x").error().contains("is the name of a link"));
    let long = pax(&vec![b'1'; (1 << 20) + 1]).error();
    assert!(long.contains("so long an extended header"), "{long}");
}

#[test]
fn nothing_hides_in_what_only_some_readers_skip() {
    let hidden = Tar::default().file("packages/b/b.1/opam", b"x: 2");
    for name in ["./", "packages/", "other"] {
        let error = Tar::repository().entry(EntryType::Directory, name, &hidden.0).error();
        let fault = "it is a directory with a size";
        assert_eq!(error, format!("readers of tar disagree about the entry \"{name}\": {fault}"));
    }
    for zeros in [512, 1024, 10240] {
        let mut tar = Tar::repository();
        tar.0.extend(vec![0; zeros]);
        assert!(tar.read().is_ok());
        tar.0.extend_from_slice(&hidden.0);
        assert!(tar.error().contains("there is more behind its end"), "{}", tar.error());
    }
}

#[test]
fn numbers_that_readers_read_differently_are_refused() {
    let with = |at: usize, field: &[u8]| {
        Tar::repository().with_header("packages/a/a.1/files/x", b"12345678", |header| {
            header[at..at + field.len()].copy_from_slice(field);
        })
    };
    let size = 124;
    for same in [
        &b"00000000010\0"[..],
        b"00000000010 ",
        b"         10 ",
        b"       10 \0\0",
        b"10\0\0\0\0\0\0\0\0\0\0",
        b"\x80\0\0\0\0\0\0\0\0\0\0\x08",
    ] {
        let tree = with(size, same).read().unwrap();
        assert_eq!(tree.file("packages/a/a.1/files/x").unwrap().len(), 8);
    }
    for other in [
        &b"+0000000010\0"[..],
        b"000000000010",
        b"10\x00777777777",
        b"10\0 7       ",
        b"\t         10 ",
        b"\x81\0\0\0\0\0\0\0\0\0\0\x08",
        b"\x80\x01\0\0\0\0\0\0\0\0\0\x08",
        b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x08",
    ] {
        let error = with(size, other).error();
        assert_eq!(
            error,
            "readers of tar disagree about the entry \"packages/a/a.1/files/x\": \
             its size is not written as all of them read it",
        );
    }
    for (at, field, what) in [
        (100, &b"0o00644\0"[..], "mode"),
        (108, b"+000001\0", "owner"),
        (116, b"junk", "group"),
        (136, b"-0000000001\0", "time"),
        (329, b"9", "device"),
        (337, b"x", "device"),
    ] {
        let error = with(at, field).error();
        assert!(error.contains(&format!("its {what} is not written")), "{error}");
    }
    let negative_time = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    assert!(with(136, negative_time).read().is_ok());
    // As bsdtar writes a user of a large number.
    assert!(with(108, b"10000000").read().is_ok() && with(116, b" 7777777").read().is_ok());
    let mut checksum = with(size, b"00000000010\0");
    let header = checksum.0.len() - 1024;
    checksum.0[header + 148] = b'+';
    assert!(checksum.error().contains("its checksum is not written"), "{}", checksum.error());
}

#[test]
fn formats_that_readers_take_for_different_ones_are_refused() {
    let with = |magic: &[u8; 8], prefix: &[u8], entry_type: u8, content: &[u8]| {
        let tar = Tar::repository().with_header("x", content, |header| {
            header[156] = entry_type;
            header[257..265].copy_from_slice(magic);
            header[345..345 + prefix.len()].copy_from_slice(prefix);
        });
        tar.file("y", b"z")
    };
    let (posix, gnu, old) = (b"ustar\x0000", b"ustar  \0", b"\0\0\0\0\0\0\0\0");
    for format in [posix, gnu, old] {
        assert!(with(format, b"", b'0', b"x").read().is_ok());
    }
    let tree = with(posix, b"packages/a/a.1", b'0', b"x").read().unwrap();
    assert!(tree.file("packages/a/a.1/x").is_some());
    for format in [gnu, old] {
        let error = with(format, b"packages", b'0', b"x").error();
        assert!(error.contains("\"x\": only some of them read the last part"), "{error}");
    }
    let holes = Tar::repository().with_header("x", b"y", |header| header[386] = b'1').error();
    assert!(holes.contains("\"x\": only some of them read the last part"), "{holes}");
    for format in [b"ustar\0\0\0", b"ustar\x0001", b"ustar   "] {
        let error = with(format, b"", b'0', b"x").error();
        assert!(error.contains("neither that of POSIX nor that of GNU"), "{error}");
    }
    for (entry_type, content) in
        [(b'x', &b"11 mtime=1\n"[..]), (b'g', b"13 comment=x\n"), (b'L', b"z\0")]
    {
        assert!(with(posix, b"", entry_type, content).read().is_ok());
        let error = with(old, b"", entry_type, content).error();
        assert!(error.contains("its format has no extended headers"), "{error}");
    }
}
