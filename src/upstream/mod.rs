//! Everything that dials out.
//!
//! This floor fetches; it decides nothing about pins. What it promises:
//!
//! - It dials only public addresses and those that the configuration names ([`AddressGuard`]),
//!   judged on the very address that is dialled, after every redirect and every DNS answer
//!   (promise G6). Behind a proxy that holds for literal addresses; what a name means there is
//!   the proxy's to judge.
//! - Every wait is bounded, every answer too: a dead, slow, endless or lying upstream costs a
//!   bounded time and becomes a [`FetchError`] whose kind says what to do about it (promise G5).
//! - Bytes come as upstream sent them, and a body that broke off never looks like a whole one.
//! - Credentials go to the origin that the configuration gave them to and into no message.
//!
//! One file per idea: [`guard`] judges addresses, `resolve` finds them, `dial`, `proxy`, `tls`
//! and `connect` make connections of them; `client` asks, follows redirects and hands out
//! `request`'s answer as a `response`; `turns`, `hosts` and `circuit` say whose turn it is, `retry`,
//! `backoff` and `pace` when to try again and when to give up; `tally` counts what came of it. [`repository`] fetches whole
//! repositories' metadata; `post` carries alerts to hosts that the configuration names.

pub mod backoff;
mod circuit;
mod client;
mod connect;
mod dial;
mod error;
pub mod guard;
mod hosts;
mod pace;
mod post;
mod proxy;
pub mod repository;
mod request;
mod resolve;
mod response;
mod retry;
mod tally;
#[cfg(test)]
mod tests;
mod tls;
mod turns;

pub use client::{Client, MAX_REDIRECTS};
pub use connect::ConnectError;
pub use error::{FetchError, FetchErrorKind, SetupError, Wait};
pub use guard::{AddressGuard, ForbiddenAddress};
pub use post::{Posted, Poster, authorities, fixed_address};
pub use request::Request;
pub use resolve::ResolveError;
pub use response::Response;
pub use tally::{Outcome, Tally};
pub use turns::{Awaited, Turns};
