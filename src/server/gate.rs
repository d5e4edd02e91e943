//! Who asks, and what they may: everyone reads, or those who have a token; those who have an admin
//! token decide.
//!
//! Tokens come as the password of HTTP's Basic scheme, whatever the user is called, or as a bearer
//! token (RFC 7617, RFC 6750), or as the cookie of a browser that showed one on the login page. A
//! token that is good is let in however many others were not.

use super::listener::Peer;
use super::rate::Rate;
use super::refusal::Refusal;
use super::same_origin::{comes_from_here, comes_from_nowhere_else};
use super::sessions::{Session, Sessions};
use super::target::Target;
use super::tls::{Authorities, Shown};
use crate::clock::Clock;
use crate::config::{Access, Reading};
use crate::digest::Sha256;
use crate::store::layout::Layout;
use crate::store::tokens::{Role, Token, TokenName, Tokens};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets requests in, or not.
pub(super) struct Gate {
    reading: Reading,
    layout: Layout,
    clock: Clock,
    public_url: String,
    /// Whose certificates are as good as a token, see [`Tls`](super::tls::Tls).
    authorities: Option<Authorities>,
    known: Arc<Mutex<Known>>,
    failures: Arc<Rate>,
    sessions: Arc<Sessions>,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Visitor {
    /// Whose token it is.
    pub token: Option<(TokenName, Role)>,
    /// What the forms of a logged-in browser carry.
    pub form_key: Option<String>,
}

/// The tokens as they were when the file was looked at last.
#[derive(Default)]
struct Known {
    tokens: Arc<Tokens>,
    /// Why the list can't be read, if so.
    problem: Option<String>,
    file: Option<FileState>,
    looked_at: Option<Instant>,
}

/// What changes whenever the list is written.
type FileState = (u64, i64, i64, u64);

impl Visitor {
    /// Whose token it is, if it may decide.
    pub(super) fn admin(&self) -> Option<&TokenName> {
        self.token.as_ref().filter(|(_, role)| *role == Role::Admin).map(|(name, _)| name)
    }
}

impl Gate {
    /// `public_url` is where browsers find this server.
    pub(super) fn new(
        access: &Access,
        authorities: Option<Authorities>,
        layout: Layout,
        clock: Clock,
        public_url: &str,
    ) -> Self {
        Self {
            reading: access.read,
            layout,
            clock,
            public_url: public_url.to_owned(),
            authorities,
            known: Arc::default(),
            failures: Arc::new(Rate::new(access.failed_logins_per_minute)),
            sessions: Arc::default(),
        }
    }

    /// The same by another configuration; who is logged in stays so.
    pub(super) fn by(
        &self,
        access: &Access,
        authorities: Option<Authorities>,
        public_url: &str,
    ) -> Self {
        Self {
            reading: access.read,
            layout: self.layout.clone(),
            clock: self.clock.clone(),
            public_url: public_url.to_owned(),
            authorities,
            known: Arc::clone(&self.known),
            failures: Rate::by(&self.failures, access.failed_logins_per_minute),
            sessions: Arc::clone(&self.sessions),
        }
    }

    /// Whether only those who have a token get anything.
    pub(super) fn is_closed(&self) -> bool {
        self.reading == Reading::Tokens
    }

    /// By whom clients' certificates are judged now.
    pub(super) fn authorities(&self) -> Option<Sha256> {
        self.authorities.as_ref().map(|it| it.id)
    }

    /// Whether a certificate is still good: a connection, or a session that is resumed, may be
    /// older than its end, or than other authorities.
    fn knows(&self, certificate: Option<&Shown>) -> bool {
        let judged = self.authorities.as_ref().zip(certificate);
        judged.is_some_and(|(ours, shown)| ours.vouch_for(shown, self.clock.now()))
    }

    /// Lets a request in and says as whom, or says why not.
    pub(super) fn admit(
        &self,
        target: &Target<'_>,
        request: &Parts,
        peer: &Peer,
    ) -> Result<Visitor, Refusal> {
        let client = peer.address;
        let headers = &request.headers;
        match target {
            // How to trust this server is what one needs first.
            Target::Style | Target::Ca | Target::Health(_) => return Ok(Visitor::default()),
            Target::Form(_) if !comes_from_here(request, &peer.speaks, &self.public_url) => {
                return Err(from_elsewhere());
            }
            Target::Api(call) if call.decides() => return self.admit_deciding(request, peer),
            _ => {}
        }
        // Where anyone may read, nobody is asked who they are.
        let is_asked = self.is_closed() || matches!(target, Target::Api(_));
        let given = headers.get(header::AUTHORIZATION).filter(|_| is_asked);
        if let Some(given) = given {
            return self.by_token(given, client);
        }
        let visitor = self.by_session(headers);
        let is_free = !self.is_closed() || target.is_for_everyone();
        match visitor {
            Some(visitor) => Ok(visitor),
            None if is_free || self.knows(peer.certificate()) => Ok(Visitor::default()),
            None => {
                Err(unauthorized("this mirror is read with a token: ask whoever runs it for one"))
            }
        }
    }

    /// Looks at what a form of a logged-in browser carries.
    pub(super) fn is_own_form(&self, visitor: &Visitor, given: Option<&str>) -> bool {
        // Whoever could measure this has the session's cookie.
        visitor.form_key.is_some() && visitor.form_key.as_deref() == given
    }

    /// Begins the session of a browser that shows a token; the cookie to set.
    pub(super) fn log_in(&self, secret: &str, client: IpAddr) -> Result<HeaderValue, Refusal> {
        let now = self.clock.now();
        let found = self.tokens().of(secret.trim(), now).map(|token| token.sha256);
        let token = found.ok_or_else(|| self.failed(client))?;
        self.sessions.begin(token).map_err(|error| {
            tracing::error!(%error, "nobody can log in");
            let message = "there are no random numbers; see the server's log";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
        })
    }

    /// Ends a browser's session; the cookie to set.
    pub(super) fn log_out(&self, headers: &HeaderMap) -> HeaderValue {
        self.sessions.end(headers)
    }

    fn admit_deciding(&self, request: &Parts, peer: &Peer) -> Result<Visitor, Refusal> {
        if !comes_from_nowhere_else(request, &peer.speaks, &self.public_url) {
            return Err(from_elsewhere());
        }
        // A browser sends cookies by itself, so those decide nothing here.
        let Some(given) = request.headers.get(header::AUTHORIZATION) else {
            return Err(unauthorized(
                "deciding takes an admin token: ask whoever runs this mirror for one",
            ));
        };
        let visitor = self.by_token(given, peer.address)?;
        match visitor.admin() {
            Some(_) => Ok(visitor),
            None => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "this token may read and not decide: opam-keep token add --admin makes one that \
                 may",
            )),
        }
    }

    fn by_token(&self, given: &HeaderValue, client: IpAddr) -> Result<Visitor, Refusal> {
        let now = self.clock.now();
        let tokens = self.tokens();
        let token = secret(given).and_then(|secret| tokens.of(&secret, now));
        let token = token.ok_or_else(|| self.failed(client))?;
        Ok(Visitor { token: Some(named(token)), form_key: None })
    }

    fn by_session(&self, headers: &HeaderMap) -> Option<Visitor> {
        if !headers.contains_key(header::COOKIE) {
            return None;
        }
        let Session { token, form_key, .. } = self.sessions.of(headers)?;
        let tokens = self.tokens();
        let token = tokens.with_hash(&token, self.clock.now())?;
        Some(Visitor { token: Some(named(token)), form_key: Some(form_key) })
    }

    fn failed(&self, client: IpAddr) -> Refusal {
        if self.failures.take(client) {
            tracing::warn!(%client, "a login failed");
            return unauthorized("this token is not good here, or not any more");
        }
        // Nothing that opam or curl would try again.
        Refusal::new(
            StatusCode::FORBIDDEN,
            "too many logins failed from this address: try again in a minute",
        )
    }

    /// Why no token is good, if so.
    pub(super) fn problem(&self) -> Option<String> {
        self.tokens();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
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
            let read = Tokens::read(&self.layout);
            // What can't be read may be so again without a change that shows.
            known.file = state.filter(|_| read.is_ok());
            let problem = read.as_ref().err().map(ToString::to_string);
            if let Some(problem) = problem.as_ref().filter(|_| problem != known.problem) {
                // A list that can't be read lets nobody in.
                tracing::error!(problem, "nobody is let in");
            }
            known.problem = problem;
            known.tokens = Arc::new(read.unwrap_or_default());
        }
        Arc::clone(&known.tokens)
    }
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

fn named(token: &Token) -> (TokenName, Role) {
    (token.name.clone(), token.role)
}

const fn from_elsewhere() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "this came from a page of another site: open this server's own page and try there",
    )
}

const fn unauthorized(message: &'static str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, message)
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
