//! opam-keep stands between opam and the hosts that packages link to: it pins every archive's
//! hash at the first fetch in an append-only ledger, serves every later request from its own
//! store, and records a divergence, with evidence, whenever upstream says something else.
//!
//! The house has floors, and a module knows only the floors below it:
//!
//! | floor | module | what lives there |
//! |---|---|---|
//! | 5 | [`cli`], [`server`] | commands; listener, TLS and one file per endpoint |
//! | 4 | [`keeper`] | the decisions: pinning, admitting, filling misses |
//! | 3 | [`upstream`], [`sink`] | everything that dials out; everything that carries alerts out |
//! | 2 | [`store`] | blobs, ledger files, catalog, the one writer |
//! | 1 | [`archive`], [`bundle`], [`ledger`], [`opam`] | pure functions over bytes |
//! | 0 | [`config`], [`clock`], [`digest`], [`package_pattern`], [`places`], [`safe_url`], [`supervisor`], [`VERSION`] | small shared things |

pub mod archive;
pub mod bundle;
pub mod cli;
pub mod clock;
pub mod config;
pub mod digest;
pub mod keeper;
pub mod ledger;
pub mod opam;
pub mod package_pattern;
pub mod places;
pub mod safe_url;
pub mod server;
pub mod sink;
pub mod store;
pub mod supervisor;
pub mod upstream;
mod version;

pub use version::{VERSION, Version};
