//! Who may ask: everyone, or those who have a token.
//!
//! Tokens come as the password of HTTP's Basic scheme, whatever the user is called, or as a bearer
//! token (RFC 7617, RFC 6750). A token that is good is let in however many others were not.

use super::rate::Rate;
use super::target::{Refusal, Target};
use crate::clock::Clock;
use crate::config::{Access, Reading};
use crate::store::layout::Layout;
use crate::store::tokens::{TokenName, Tokens, TokensError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets requests in, or not.
pub(super) struct Gate {
    reading: Reading,
    layout: Layout,
    clock: Clock,
    known: Mutex<Known>,
    failures: Rate,
}

/// The tokens as they were when the file was looked at last.
#[derive(Default)]
struct Known {
    tokens: Arc<Tokens>,
    file: Option<FileState>,
    looked_at: Option<Instant>,
}

/// What changes whenever the list is written.
type FileState = (u64, i64, i64, u64);

impl Gate {
    pub(super) fn new(access: &Access, layout: Layout, clock: Clock) -> Self {
        Self {
            reading: access.read,
            layout,
            clock,
            known: Mutex::default(),
            failures: Rate::new(access.failed_logins_per_minute),
        }
    }

    /// Whether only those who have a token get anything.
    pub(super) fn is_closed(&self) -> bool {
        self.reading == Reading::Tokens
    }

    /// Lets a request in and says as whom, or says why not.
    pub(super) fn admit(
        &self,
        target: &Target<'_>,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<Option<TokenName>, Refusal> {
        // How to trust this server is what one needs first.
        if !self.is_closed() || matches!(target, Target::Style | Target::Ca) {
            return Ok(None);
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return Err(unauthorized(
                "this mirror is read with a token: opam-keep token add makes one",
            ));
        };
        let now = self.clock.now();
        let name =
            secret(given).and_then(|secret| Some(self.tokens().of(&secret, now)?.name.clone()));
        match name {
            Some(name) => Ok(Some(name)),
            None if self.failures.take(client) => {
                tracing::warn!(%client, "a login failed");
                Err(unauthorized("this token is not good here, or not any more"))
            }
            // Nothing that opam or curl would try again.
            None => Err(Refusal {
                status: StatusCode::FORBIDDEN,
                message: "too many logins failed from this address: try again in a minute",
            }),
        }
    }

    /// The tokens, read again when their file has changed.
    fn tokens(&self) -> Arc<Tokens> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Arc::clone(&known.tokens);
        }
        known.looked_at = Some(Instant::now());
        let metadata = std::fs::metadata(self.layout.tokens()).ok();
        let state = metadata.map(|it| (it.ino(), it.mtime(), it.mtime_nsec(), it.size()));
        if known.file != state || state.is_none() {
            known.file = state;
            known.tokens = Arc::new(Tokens::read(&self.layout).unwrap_or_else(|error| {
                tell(&error);
                Tokens::default()
            }));
        }
        Arc::clone(&known.tokens)
    }
}

/// A list that can't be read lets nobody in.
fn tell(error: &TokensError) {
    tracing::error!(%error, "nobody is let in");
}

/// The token in an `Authorization` header.
fn secret(given: &HeaderValue) -> Option<String> {
    let (scheme, rest) = given.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    Some(password.to_owned())
}

const fn unauthorized(message: &'static str) -> Refusal {
    Refusal { status: StatusCode::UNAUTHORIZED, message }
}

/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_either_scheme_and_nowhere_else() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (given, expected) in [
            (basic("ci:opamkeep_x"), Some("opamkeep_x")),
            (basic(":opamkeep_x"), Some("opamkeep_x")),
            (basic("user:with:colon"), Some("with:colon")),
            ("bEaReR opamkeep_x".to_owned(), Some("opamkeep_x")),
            (basic("no colon"), None),
            ("Basic ???".to_owned(), None),
            ("Digest x".to_owned(), None),
            ("opamkeep_x".to_owned(), None),
        ] {
            let found = secret(&HeaderValue::from_str(&given).unwrap());
            assert_eq!(found.as_deref(), expected, "{given}");
        }
    }
}
