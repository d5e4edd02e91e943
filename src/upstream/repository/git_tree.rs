//! Reads what `git ls-tree` and `git cat-file --batch` print; pure.

use super::RepositoryError;
use super::files::{Collector, FileKind, RawFile};
use bytes::Bytes;

/// One file of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: FileKind,
    /// The object's name, in hexadecimal.
    pub(super) object: String,
    pub(super) path: Vec<u8>,
}

/// Output that is not what git prints.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Reads `git ls-tree -r -z`: `mode SP type SP object TAB path NUL` for each entry. Submodules
/// are left out.
///
/// # Errors
/// An entry that looks otherwise.
pub(super) fn parse_listing(output: &[u8]) -> Result<Vec<Entry>, Unreadable> {
    let lines = output.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines.filter_map(|line| parse_line(line).transpose()).collect()
}

fn parse_line(line: &[u8]) -> Result<Option<Entry>, Unreadable> {
    let tab = line.iter().position(|byte| *byte == b'\t').ok_or(Unreadable)?;
    let (head, path) = (&line[..tab], &line[tab + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| Unreadable)?;
    let mut words = head.split(' ');
    let (Some(mode), Some(_), Some(object), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Unreadable);
    };
    let kind = match mode {
        "100644" | "100755" | "100664" => FileKind::Regular,
        "120000" => FileKind::Symlink,
        "160000" => return Ok(None),
        _ => return Err(Unreadable),
    };
    if !is_object_name(object) || path.is_empty() {
        return Err(Unreadable);
    }
    Ok(Some(Entry { kind, object: object.to_owned(), path: path.to_vec() }))
}

/// Reads `git cat-file --batch`, asked for `entries` in their order:
/// `object SP "blob" SP size LF content LF` for each.
///
/// # Errors
/// Output that looks otherwise, or more files than `collector` takes.
pub(super) fn collect_blobs(
    entries: Vec<Entry>,
    mut output: Bytes,
    collector: &mut Collector,
) -> Result<Result<(), Unreadable>, RepositoryError> {
    for Entry { kind, object, path } in entries {
        let Some(bytes) = take_blob(&object, &mut output) else { return Ok(Err(Unreadable)) };
        collector.add(RawFile { path, kind, bytes })?;
    }
    Ok(if output.is_empty() { Ok(()) } else { Err(Unreadable) })
}

fn take_blob(object: &str, output: &mut Bytes) -> Option<Bytes> {
    let end = output.iter().position(|byte| *byte == b'\n')?;
    let head = output.split_to(end + 1);
    let size = std::str::from_utf8(&head[..end]).ok()?;
    let size: usize = size.strip_prefix(object)?.strip_prefix(" blob ")?.parse().ok()?;
    if output.len() <= size || output[size] != b'\n' {
        return None;
    }
    let content = output.split_to(size);
    drop(output.split_to(1));
    Some(content)
}

/// Whether `text` is an object's full name: 40 hexadecimal digits, or 64.
pub(super) fn is_object_name(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "587be6b4c3f93f93c489c0111bba5596147a26cb";

    #[test]
    fn listings_keep_files_and_symlinks_and_leave_submodules_out() {
        let listing = format!(
            "100644 blob {OBJECT}\tpackages/a b/\u{e9}\0120000 blob {OBJECT}\tpackages/link\0\
             160000 commit {OBJECT}\tpackages/module\0100755 blob {OBJECT}\trepo\0"
        );
        let entries = parse_listing(listing.as_bytes()).unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (entry.kind, String::from_utf8_lossy(&entry.path)))
            .collect();
        assert_eq!(
            seen,
            [
                (FileKind::Regular, "packages/a b/\u{e9}".into()),
                (FileKind::Symlink, "packages/link".into()),
                (FileKind::Regular, "repo".into()),
            ]
        );
        for wrong in ["x", "100644 blob x\ta", "100644 blob\ta", "777 blob x\ta\0"] {
            assert_eq!(parse_listing(wrong.as_bytes()), Err(Unreadable), "{wrong}");
        }
    }

    #[test]
    fn blobs_are_cut_where_their_sizes_say() {
        let read = |output: String| {
            let entries = ["a", "b"].map(|path| Entry {
                kind: FileKind::Regular,
                object: OBJECT.to_owned(),
                path: path.into(),
            });
            let mut collector = Collector::new("here".to_owned());
            collect_blobs(entries.into(), output.into(), &mut collector)
                .unwrap()
                .map(|()| collector.finish().into_iter().map(|file| file.bytes).collect::<Vec<_>>())
        };
        let good = format!("{OBJECT} blob 3\na\nb\n{OBJECT} blob 0\n\n");
        assert_eq!(read(good.clone()).unwrap(), [&b"a\nb"[..], &b""[..]]);
        for wrong in [
            good.clone() + "x",
            good[..good.len() - 1].to_owned(),
            good.replace("blob 3", "blob 4"),
            good.replace("blob 3", "blob 99999999999"),
            good.replace("blob 3", "tree 3"),
            format!("{OBJECT} missing\n"),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
