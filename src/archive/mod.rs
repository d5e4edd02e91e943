//! Archives, as pure functions over bytes: what is in one, and how two of them differ.
//!
//! In scope: tar, plain or inside gzip, bzip2, xz or zstd, and zip; what a file that is no archive
//! looks like; the explanation of why upstream's bytes are no longer the pinned ones. What
//! something is, its bytes say, never its name. Out of scope, and not known here: files, networks,
//! time, and what is done about a difference.
//!
//! Promises: no input makes it panic, and none makes it grow or work beyond [`Limits`]. Nothing
//! is ever written anywhere, nested archives are not opened, and names are only data: printable,
//! and flagged where they would lead out of a folder. Where the bounds end a reading early, the
//! answer says so.
//!
//! Neither archive is ever held inflated. Each is read once for the digests of its entries; only
//! where text files differ it is read again, and these alone are kept, within a budget.
//!
//! There is no clock here. A caller that wants a deadline lets its reader fail when it has passed:
//! that failure comes back as it was.

mod bounds;
mod buffered;
mod changes;
mod compare;
mod document;
mod entry;
mod explain;
mod explanation;
mod format;
mod inflate;
mod limits;
mod list;
mod name;
mod order;
mod problem;
mod sentence;
mod source;
mod tar;
#[cfg(test)]
mod tests;
mod text_diff;
mod texts;
mod top;
mod unified;
mod walk;
mod zip;

pub use changes::{Aspect, Change, Content, Side, State};
pub use document::Document;
pub use entry::{Entry, EntryKind, Owner};
pub use explain::explain;
pub use explanation::{
    Explanation, NotAnArchive, Recompressed, Repacked, Truncated, Unreadable, UntilThen,
};
pub use format::{Compression, Container, Format};
pub use limits::Limits;
pub use list::{Inflated, Listing, Remark, list};
pub use name::{EntryName, NameFlag, is_deceptive, printable};
pub use problem::Problem;
pub use text_diff::TextDiff;
pub use unified::file_diff;
