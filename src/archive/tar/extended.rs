//! What comes before a header and says more about it: GNU's long names, and pax records.

use super::skip_padding;
use crate::archive::bounds::Tally;
use crate::archive::list::Remark;
use crate::archive::problem::Problem;
use crate::archive::source::read_full;
use crate::archive::walk::{Stream, Visit};
use tar::{EntryType, PaxExtensions};

/// What was said so far about the next entry.
#[derive(Default)]
pub(super) struct Extended {
    gnu_name: Option<Vec<u8>>,
    gnu_target: Option<Vec<u8>>,
    pax_name: Option<Vec<u8>>,
    pax_target: Option<Vec<u8>>,
    pax_user: Option<Vec<u8>>,
    pax_group: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<i64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// One of pax's ways to store a file with holes.
    pub(super) sparse: bool,
    /// Whether there was a pax header.
    has_records: bool,
    /// A record that can't be read, or a second header of a kind.
    malformed: bool,
}

impl Extended {
    /// Reads the header's content if it is one that speaks of another entry; else leaves it.
    pub(super) fn read(
        &mut self,
        header: &tar::Header,
        stream: &mut Stream<'_>,
        tally: &mut Tally<'_>,
        visit: &mut dyn Visit,
    ) -> Result<bool, Problem> {
        let limits = tally.limits();
        match header.entry_type() {
            EntryType::GNULongName => {
                let name = read_name(header, stream, limits.name_len)?;
                self.malformed |= self.gnu_name.replace(name).is_some();
            }
            EntryType::GNULongLink => {
                let target = read_name(header, stream, limits.name_len)?;
                self.malformed |= self.gnu_target.replace(target).is_some();
            }
            EntryType::XHeader => {
                let records = read_bounded(header, stream, limits.extended_header)?;
                self.malformed |= std::mem::replace(&mut self.has_records, true);
                self.read_records(records.ok_or(too_large(limits.extended_header))?);
            }
            EntryType::XGlobalHeader => {
                let records = read_bounded(header, stream, limits.extended_header)?;
                read_global(&records.ok_or(too_large(limits.extended_header))?, visit);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The entry's name; pax goes before GNU, as in GNU tar.
    pub(super) fn name(&self) -> Option<&[u8]> {
        self.pax_name.as_deref().or(self.gnu_name.as_deref())
    }

    /// The target of a link.
    pub(super) fn target(&self) -> Option<&[u8]> {
        self.pax_target.as_deref().or(self.gnu_target.as_deref())
    }

    pub(super) fn user(&self) -> Option<&[u8]> {
        self.pax_user.as_deref()
    }

    pub(super) fn group(&self) -> Option<&[u8]> {
        self.pax_group.as_deref()
    }

    /// Whether readers of tar may differ about the entry.
    pub(super) fn is_ambiguous(&self) -> bool {
        let differ = |pax: &Option<Vec<u8>>, gnu: &Option<Vec<u8>>| {
            pax.is_some() && gnu.is_some() && pax != gnu
        };
        self.malformed
            || differ(&self.pax_name, &self.gnu_name)
            || differ(&self.pax_target, &self.gnu_target)
    }

    fn read_records(&mut self, bytes: Vec<u8>) {
        for record in PaxExtensions::new(&bytes) {
            let Ok(record) = record else {
                self.malformed = true;
                return;
            };
            let value = record.value_bytes();
            let number = || std::str::from_utf8(value).ok()?.parse().ok();
            // Many a reader takes a zero for the end of a name.
            let is_name = matches!(record.key_bytes(), b"path" | b"linkpath" | b"GNU.sparse.name");
            self.malformed |= is_name && value.contains(&0);
            match record.key_bytes() {
                b"path" => self.pax_name = Some(value.to_vec()),
                b"linkpath" => self.pax_target = Some(value.to_vec()),
                b"uname" => self.pax_user = Some(value.to_vec()),
                b"gname" => self.pax_group = Some(value.to_vec()),
                b"size" => {
                    self.size = number();
                    self.malformed |= self.size.is_none();
                }
                b"uid" => self.uid = number(),
                b"gid" => self.gid = number(),
                b"mtime" => self.modified = whole_seconds(value),
                b"GNU.sparse.name" => {
                    self.pax_name = Some(value.to_vec());
                    self.sparse = true;
                }
                key => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
    }
}

/// Takes the comment of a global header, and notes when it says what entries are, which some readers
/// heed.
fn read_global(bytes: &[u8], visit: &mut dyn Visit) {
    for record in PaxExtensions::new(bytes) {
        match record {
            Ok(record) if record.key_bytes() == b"comment" => visit.comment(record.value_bytes()),
            Ok(record) if HARMLESS.contains(&record.key_bytes()) => {}
            _ => return visit.remark(Remark::AmbiguousHeader { path: GLOBAL.to_owned() }),
        }
    }
}

/// Reads a long name, which ends with a zero.
fn read_name(
    header: &tar::Header,
    stream: &mut Stream<'_>,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
    let name = read_bounded(header, stream, limit.saturating_add(1))?;
    let mut name = name.ok_or(Problem::NameTooLong { limit })?;
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    Ok(name)
}

/// Reads the content of a header; `None` if it is longer than the limit.
fn read_bounded(
    header: &tar::Header,
    stream: &mut Stream<'_>,
    limit: usize,
) -> Result<Option<Vec<u8>>, Problem> {
    let size = header.entry_size().map_err(Problem::damaged)?;
    let Some(length) = usize::try_from(size).ok().filter(|length| *length <= limit) else {
        return Ok(None);
    };
    let mut content = vec![0; length];
    if read_full(stream, &mut content)? < length {
        return Err(Problem::EndsEarly);
    }
    skip_padding(stream, size)?;
    Ok(Some(content))
}

/// The seconds of a time that may have a fraction and a sign.
fn whole_seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.split('.').next()?.parse().ok()
}

fn too_large(limit: usize) -> Problem {
    Problem::HeaderTooLarge { limit }
}

/// What a global header may say without changing what any entry holds.
const HARMLESS: [&[u8]; 7] = [b"atime", b"ctime", b"mtime", b"uid", b"gid", b"uname", b"gname"];

/// What stands for an entry's name where all entries are meant.
const GLOBAL: &str = "pax_global_header";
