//! Explanations as one sentence each.

use super::changes::{Aspect, Content};
use super::explanation::{
    Explanation, NotAnArchive, Recompressed, Repacked, Truncated, Unreadable, UntilThen,
};
use super::format::Container;
use super::list::Remark;
use std::fmt;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recompressed(it) => write!(f, "recompressed: {it}"),
            Self::Repacked(it) => write!(f, "repacked: {it}"),
            Self::Content(it) => write!(f, "content: {it}"),
            Self::Truncated(it) => write!(f, "truncated: {it}"),
            Self::NotAnArchive(it) => write!(f, "not-an-archive: {it}"),
            Self::Unreadable(it) => write!(f, "unreadable: {it}"),
        }
    }
}

impl fmt::Display for Recompressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inside = match (self.was.container, self.is.container) {
            (Container::Tar, Container::Tar) => "tar",
            (Container::Zip, Container::Zip) => "entries",
            _ => "bytes",
        };
        if self.was == self.is {
            write!(f, "the same {inside} inside, {} of another making", self.is)?;
        } else {
            write!(f, "the same {inside} inside; it was {} and is {}", self.was, self.is)?;
        }
        write_remarks(f, &self.remarks)
    }
}

impl fmt::Display for Repacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.files {
            1 => f.write_str("the same file")?,
            files => write!(f, "the same {}", Files(files))?,
        }
        write_aspects(f, &self.aspects)?;
        write_remarks(f, &self.remarks)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [(self.changed, "changed"), (self.added, "added"), (self.removed, "removed")];
        let counts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if counts.is_empty() {
            match self.unchanged {
                1 => f.write_str("the one file does not differ")?,
                files => write!(f, "none of {} differs", Files(files))?,
            }
        } else if let [change] = &self.changes[..]
            && change.path.is_empty()
        {
            f.write_str("the file itself changed")?;
        } else {
            let files = Files(self.differences() + self.unchanged);
            write!(f, "{} of {files}", counts.join(", "))?;
            let paths: Vec<&str> =
                self.changes.iter().take(NAMED).map(|change| change.path.as_str()).collect();
            let more = if self.differences() > paths.len() { ", …" } else { "" };
            write!(f, " ({}{more})", paths.join(", "))?;
        }
        write_aspects(f, &self.aspects)?;
        write_remarks(f, &self.remarks)
    }
}

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.until_then {
            UntilThen::Same => {
                write!(f, "the first {} of the {} pinned bytes", self.size, self.pinned_size)
            }
            UntilThen::Other { entries: 0, .. } => {
                write!(f, "it ends after {} bytes, before anything in it does", self.size)
            }
            UntilThen::Other { entries, found } => {
                write!(f, "it ends early, after {} bytes and {entries} entries; ", self.size)?;
                write!(f, "until then, {found}")
            }
        }
    }
}

impl fmt::Display for NotAnArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.document.fmt(f)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be compared: {}", self.side, self.why)?;
        match &self.found {
            Some(found) => write!(f, "; as far as it was read, {found}"),
            None => Ok(()),
        }
    }
}

/// A number of files, in words as people do it.
struct Files(usize);

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 file"),
            count => write!(f, "{count} files"),
        }
    }
}

fn write_aspects(f: &mut fmt::Formatter<'_>, aspects: &[Aspect]) -> fmt::Result {
    aspects.iter().try_for_each(|aspect| write!(f, "; {aspect}"))
}

fn write_remarks(f: &mut fmt::Formatter<'_>, remarks: &[Remark]) -> fmt::Result {
    match remarks {
        [] => Ok(()),
        [remark] => write!(f, "; oddly, {remark}"),
        [first, _] => write!(f, "; oddly, {first} (and one more odd thing)"),
        [first, rest @ ..] => write!(f, "; oddly, {first} (and {} more odd things)", rest.len()),
    }
}

/// How many files a sentence names.
const NAMED: usize = 3;
