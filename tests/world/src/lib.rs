//! A fake internet for opam-keep's tests, and everything that asks it things.
//!
//! [`World`] is one server that is every host at once, over TLS with a certificate authority of
//! its own and over plain HTTP on the same port. What it serves is made at test time ([`Repo`])
//! or recorded from the real internet ([`Recorded`]). It can be told to lie about any URL
//! ([`Lie`]), and it remembers every request ([`Request`]). [`MailServer`] takes mail for it.
//!
//! Around it stand the others: [`Keep`] runs the built binary on a store of its own, [`Opam`] is a
//! real opam, [`Job`] a CI job with one, [`Curl`], [`raw`] and [`http2`] are simpler clients. What goes wrong in here is the fault of
//! the test, so everything panics with a sentence instead of returning errors.

pub mod http2;
pub mod raw;

mod archive;
mod authority;
mod browser;
mod ca;
mod checkout;
mod checksum;
mod curl;
mod deadline;
mod disk;
mod distance;
mod fake_clock;
mod index;
mod job;
mod keep;
mod ledger;
mod lie;
mod mail;
mod memory;
mod mirror;
mod network;
mod nginx;
mod opam;
mod processor;
mod recorded;
mod repo;
mod request;
mod run;
mod server;
mod sites;
mod skip;
mod trace;
mod witness;
mod world;

pub use archive::tar_gz;
pub use browser::Browser;
pub use ca::{Ca, Identity};
pub use checkout::Checkout;
pub use checksum::{Kind, hex};
pub use curl::{Answer, Curl};
pub use deadline::within;
pub use disk::{Disk, ReadOnly};
pub use distance::{Distance, UNBOUNDED};
pub use fake_clock::FakeClock;
pub use index::Index;
pub use job::Job;
pub use keep::Keep;
pub use ledger::{Ledger, evidence};
pub use lie::Lie;
pub use mail::{Mail, MailServer};
pub use memory::{Memory, resident};
pub use mirror::Mirror;
pub use network::Network;
pub use nginx::{Nginx, free_address};
pub use opam::{Opam, Version, installed};
pub use processor::computed;
pub use recorded::{Recorded, Snapshot};
pub use repo::{Package, Repo};
pub use request::Request;
pub use run::{Run, run};
pub use skip::skipped;
pub use trace::Trace;
pub use witness::Witness;
pub use world::World;
