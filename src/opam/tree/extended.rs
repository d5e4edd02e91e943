//! What comes before an entry and says more about it: GNU's long names, and pax records.

use super::TreeError;
use tar::EntryType;

/// What was said about the entry that comes next.
pub(super) struct Extended {
    /// The name of the header that said it.
    of: Vec<u8>,
    path: Option<Vec<u8>>,
    size: Option<Vec<u8>>,
}

impl Extended {
    /// Reads a long name of GNU; who ends names with zeros ends it at the first one.
    pub(super) fn long_name(of: Vec<u8>, content: &[u8]) -> Self {
        let name = content.strip_suffix(b"\0").unwrap_or(content);
        Self { of, path: Some(name.to_vec()), size: None }
    }

    /// Reads the records of pax.
    ///
    /// # Errors
    /// One that readers understand differently.
    pub(super) fn records(of: Vec<u8>, content: &[u8]) -> Result<Self, TreeError> {
        let (mut path, mut size) = (None, None);
        let fault = each_record(content, |key, value| {
            let record = match key {
                b"path" => &mut path,
                b"size" => &mut size,
                _ if is_harmless(key) => return None,
                _ => return Some("its extended header says what only some of them heed"),
            };
            let is_second = record.replace(value.to_vec()).is_some();
            is_second.then_some("its extended header says the same thing twice")
        });
        match fault {
            None => Ok(Self { of, path, size }),
            // It is about the entry, so its name tells more.
            Some(fault) => Err(TreeError::ambiguous(&path.unwrap_or(of), fault)),
        }
    }

    /// The name of the entry, which has a name of its own too.
    pub(super) fn name<'a>(&'a self, own: &'a [u8]) -> &'a [u8] {
        self.path.as_deref().unwrap_or(own)
    }

    /// Refuses a size that is not the one in the entry's own header, and any for what has no
    /// content.
    pub(super) fn check_size(
        &self,
        name: &[u8],
        entry_type: EntryType,
        size: u64,
    ) -> Result<(), TreeError> {
        let Some(said) = &self.size else { return Ok(()) };
        if entry_type != EntryType::Regular {
            let fault = "its extended header has a size, and it is no regular file";
            return Err(TreeError::ambiguous(name, fault));
        }
        if *said != size.to_string().as_bytes() {
            let fault = "its extended header has another size than its header";
            return Err(TreeError::ambiguous(name, fault));
        }
        Ok(())
    }

    /// The error when no file or directory follows.
    pub(super) fn dangles(&self) -> TreeError {
        TreeError::ambiguous(&self.of, "no file or directory follows this extended header")
    }
}

/// Refuses a global header that says more than a comment, which `git archive` writes.
pub(super) fn check_global(name: &[u8], content: &[u8]) -> Result<(), TreeError> {
    let fault = each_record(content, |key, _| {
        let is_comment = key == b"comment";
        (!is_comment).then_some("this extended header speaks for all entries")
    });
    fault.map_or(Ok(()), |fault| Err(TreeError::ambiguous(name, fault)))
}

/// Goes through `length SP key=value LF`, and says what is wrong with the first bad one.
fn each_record(
    content: &[u8],
    mut fault_of: impl FnMut(&[u8], &[u8]) -> Option<&'static str>,
) -> Option<&'static str> {
    let mut rest = content;
    while !rest.is_empty() {
        let Some((key, value, after)) = split_record(rest) else {
            return Some("its extended header can't be read");
        };
        if let Some(fault) = fault_of(key, value) {
            return Some(fault);
        }
        rest = after;
    }
    None
}

/// The key and the value of the first record, and what comes after it.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length = records[..space].iter().try_fold(0_usize, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| usize::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    // Some look for records line by line: they must find none within one.
    let mut more_lines = record.split(|byte| *byte == b'\n').skip(1);
    let hides_none = match is_harmless(key) {
        true => more_lines.all(|line| !line.first().is_some_and(u8::is_ascii_digit)),
        false => more_lines.next().is_none(),
    };
    hides_none.then(|| (key, value, &records[length..]))
}

/// Whether a record changes neither the name nor the content of a file for any reader.
fn is_harmless(key: &[u8]) -> bool {
    HARMLESS.contains(&key) || HARMLESS_BEGINNINGS.iter().any(|begins| key.starts_with(begins))
}

const HARMLESS: [&[u8]; 12] = [
    b"atime",
    b"comment",
    b"ctime",
    b"gid",
    b"gname",
    b"mtime",
    b"uid",
    b"uname",
    b"SCHILY.dev",
    b"SCHILY.fflags",
    b"SCHILY.ino",
    b"SCHILY.nlink",
];
/// Extended attributes and access lists, as GNU tar and bsdtar write them.
const HARMLESS_BEGINNINGS: [&[u8]; 5] =
    [b"LIBARCHIVE.creationtime", b"LIBARCHIVE.xattr.", b"RHT.", b"SCHILY.acl.", b"SCHILY.xattr."];
