//! opam's own formats, as pure functions over bytes.
//!
//! What opam and its repositories say is read here, once, into types that can't be wrong:
//! checksums, package names and versions, safe paths, opam files, repository trees. What changed
//! from one state of a version or a repository to the next is told here, in kinds. The way back is
//! here too: the `repo` file and the `index.tar.gz` that clients get.
//!
//! It promises that no input makes it panic, recurse deeply or grow without a bound (every limit
//! is a named constant, checked before the work), that an opam file prints back byte for byte,
//! and that one tree always gives one index.
//!
//! It must not know disk, network, time or policy: whether something is admitted, held or served
//! is decided floors above.

mod alike;
mod checksum;
mod dependency;
mod edit;
mod findings;
mod index;
mod package;
mod path;
mod repo_file;
mod source;
pub mod syntax;
mod tree;
mod version_order;
mod wanted;

pub use alike::{Alike, Presence};
pub use checksum::{Checksum, ChecksumError, ChecksumKind, DeclaredChecksums, Strength};
pub use dependency::{Dependency, MAX_DEPENDENCIES, dependencies, text_of};
pub use edit::{
    Change, Edit, EditKind, MAX_CHANGE_TEXT, NotAnEditKind, VersionFiles, edits, stops_clients,
};
pub use findings::{Finding, FindingKind, findings};
pub use index::{Blocks, IndexError, IndexFile, fits_index, write_index};
pub use package::{Package, PackageError, PackageName, PackageVersion};
pub(crate) use path::ancestors;
pub use path::{MAX_PATH_LEN, PathError, RepoPath};
pub use repo_file::rewrite_repo_file;
pub use source::{
    ArchiveSource, EXTRA_SOURCE, ExtraSources, Rewrite, Role, SourceError, Unreadable,
    archive_sources, patches, source_name, strengthen,
};
pub use syntax::{OpamFile, SyntaxError};
pub use tree::{Tree, TreeError, TreeLimits};
pub use wanted::{Wanted, WantedError};
