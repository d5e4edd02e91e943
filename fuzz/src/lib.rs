//! What must hold of everything that opam-keep reads from strangers, whatever the bytes are.
//!
//! One function a fuzz target; each reads its input with the same public functions that opam-keep
//! itself calls, and panics when a promise does not hold. `src/bin/seed.rs` writes what they begin
//! with.

mod archive;
mod bundle;
mod config;
mod ledger;
mod mending;
mod opam;
mod request;
mod tree;
mod value;

pub use archive::{archive_compare, archive_tar, archive_zip};
pub use bundle::{bundle, signer};
pub use config::mirror_toml;
pub use ledger::{ledger_entry, note, proof, tile};
pub use opam::{edit, opam_file, opam_version, repo_file};
pub use request::request_target;
pub use tree::index;
pub use value::value;
