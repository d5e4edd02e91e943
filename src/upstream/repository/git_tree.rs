//! Reads what `git ls-tree` and `git cat-file --batch` print; pure.

use super::RepositoryError;
use super::files::{Collector, FileKind, MAX_FILES, RawFile};
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

/// Reads `git ls-tree -r -t -z` as it comes: `mode SP type SP object TAB path NUL` for each entry.
/// Directories and submodules are left out.
///
/// A few trees that name each other many times list more files than any memory holds, or more
/// directories than anyone waits for. So both are counted as they come.
#[derive(Debug)]
pub(super) struct Listing {
    /// What errors name.
    place: String,
    entries: Vec<Entry>,
    /// The beginning of an entry whose end has yet to come.
    begun: Vec<u8>,
    size: u64,
    files: usize,
    directories: usize,
}

impl Listing {
    /// One that names `place` in its errors.
    pub(super) fn new(place: String) -> Self {
        let (entries, begun) = (Vec::new(), Vec::new());
        Self { place, entries, begun, size: 0, files: 0, directories: 0 }
    }

    /// Takes what git printed next.
    ///
    /// # Errors
    /// There is more than anyone honest has; inside: an entry that looks otherwise.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<Result<(), Unreadable>, RepositoryError> {
        self.size += piece.len() as u64;
        if self.size > MAX_LISTING {
            return Err(self.too_large(MAX_LISTING, "bytes of names"));
        }
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            self.begun.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let Ok(line) = parse_line(&self.begun) else { return Ok(Err(Unreadable)) };
            self.begun.clear();
            self.add(line)?;
        }
        self.begun.extend_from_slice(rest);
        Ok(Ok(()))
    }

    /// All files, once git has printed everything.
    pub(super) fn finish(self) -> Result<Vec<Entry>, Unreadable> {
        if self.begun.is_empty() { Ok(self.entries) } else { Err(Unreadable) }
    }

    fn add(&mut self, line: Line) -> Result<(), RepositoryError> {
        let (count, what) = match line {
            Line::Directory => (&mut self.directories, "directories"),
            Line::Submodule | Line::File(_) => (&mut self.files, "files"),
        };
        *count += 1;
        if *count > MAX_FILES {
            return Err(self.too_large(MAX_FILES as u64, what));
        }
        if let Line::File(entry) = line {
            self.entries.push(entry);
        }
        Ok(())
    }

    fn too_large(&self, limit: u64, what: &'static str) -> RepositoryError {
        RepositoryError::TooLarge { place: self.place.clone(), limit, what }
    }
}

#[derive(Debug)]
enum Line {
    File(Entry),
    Directory,
    Submodule,
}

fn parse_line(line: &[u8]) -> Result<Line, Unreadable> {
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
        "040000" => return Ok(Line::Directory),
        "160000" => return Ok(Line::Submodule),
        _ => return Err(Unreadable),
    };
    if !is_object_name(object) || path.is_empty() {
        return Err(Unreadable);
    }
    Ok(Line::File(Entry { kind, object: object.to_owned(), path: path.to_vec() }))
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

/// Most bytes of a listing; the largest known repository's has about 5 MB.
const MAX_LISTING: u64 = MAX_FILES as u64 * 256;

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "587be6b4c3f93f93c489c0111bba5596147a26cb";

    #[test]
    fn listings_keep_files_and_symlinks_and_leave_all_else_out() {
        let read = |listing: &[u8]| {
            let mut read = Listing::new("here".to_owned());
            for byte in listing.chunks(1) {
                read.read(byte).unwrap()?;
            }
            read.finish()
        };
        let listing = format!(
            "100644 blob {OBJECT}\tpackages/a b/\u{e9}\0120000 blob {OBJECT}\tpackages/link\0\
             160000 commit {OBJECT}\tpackages/module\0040000 tree {OBJECT}\tpackages\0100755 blob {OBJECT}\trepo\0"
        );
        let entries = read(listing.as_bytes()).unwrap();
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
        for wrong in ["x", "100644 blob x\ta\0", "100644 blob\ta\0", "777 blob x\ta\0"] {
            assert_eq!(read(wrong.as_bytes()), Err(Unreadable), "{wrong}");
        }
    }

    #[test]
    fn listings_are_bounded() {
        let most = |line: String| {
            let mut listing = Listing::new("here".to_owned());
            let mut lines = 0;
            loop {
                match listing.read(line.as_bytes()) {
                    Ok(read) => read.unwrap(),
                    Err(error) => return (lines, error.to_string()),
                }
                lines += 1;
            }
        };
        let file = most(format!("100644 blob {OBJECT}\ta\0"));
        assert_eq!(file, (500_000, "here: more than 500000 files".to_owned()));
        let module = most(format!("160000 commit {OBJECT}\ta\0"));
        assert_eq!(module, (500_000, "here: more than 500000 files".to_owned()));
        let directory = most(format!("040000 tree {OBJECT}\ta\0"));
        assert_eq!(directory, (500_000, "here: more than 500000 directories".to_owned()));
        let name = most("a".repeat(1 << 20));
        assert_eq!(name, (122, "here: more than 128000000 bytes of names".to_owned()));
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
