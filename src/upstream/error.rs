//! Why something could not be fetched, in the kinds that decide what happens next.

use super::connect::ConnectError;
use super::guard::ForbiddenAddress;
use super::resolve::ResolveError;
use crate::safe_url::SafeUrl;
use http::StatusCode;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why the configuration can't be turned into a client.
#[derive(Debug, Error)]
pub enum SetupError {
    /// `upstream.extra_ca` can't be used.
    #[error("upstream.extra_ca: {reason}: name a PEM file of certificate authorities")]
    ExtraCa {
        /// What is wrong, with the file.
        reason: String,
    },
    /// `upstream.proxy` can't be used.
    #[error("upstream.proxy: {url} is no HTTP proxy: write http://host:port")]
    Proxy {
        /// What was configured, without credentials.
        url: SafeUrl,
    },
    /// TLS can't be set up at all.
    #[error("TLS can't be set up: {reason}")]
    Tls {
        /// What rustls said.
        reason: String,
    },
}

/// A fetch that failed, and at which URL.
#[derive(Clone, Debug, Error)]
#[error("{url}: {kind}")]
pub struct FetchError {
    /// The URL that was being asked when it failed: after redirects, the last one.
    pub url: Box<SafeUrl>,
    /// What failed.
    pub kind: FetchErrorKind,
}

/// What failed.
#[derive(Clone, Debug, Error)]
pub enum FetchErrorKind {
    /// The URL is no `http` or `https` URL, or not one that can be asked for.
    #[error("not a URL that can be fetched: {0}")]
    UnusableUrl(&'static str),
    /// `upstream.offline` is set.
    #[error("nothing is asked of other machines, because upstream.offline is set")]
    Offline,
    /// The host, first or after a redirect, has only addresses that may not be dialled.
    #[error("{host} may not be dialled: {source}")]
    ForbiddenAddress {
        /// The name or literal address.
        host: String,
        /// Which address and why.
        source: ForbiddenAddress,
    },
    /// No connection.
    #[error(transparent)]
    Connect(ConnectError),
    /// A connection, but no TLS on it.
    #[error(transparent)]
    Tls(ConnectError),
    /// Upstream kept silent for longer than `upstream.timeout`.
    #[error("no answer: {0}")]
    Timeout(Wait),
    /// The connection broke before the answer's head was complete.
    #[error("the connection broke before an answer came: {reason}")]
    Interrupted {
        /// What broke it.
        reason: String,
    },
    /// The answer is not what was asked for.
    #[error("upstream answered {0}")]
    Status(StatusCode),
    /// A redirect that says not where to, or not in a URL of sensible length.
    #[error("upstream answered {status} without a usable Location")]
    BadRedirect {
        /// The redirect's status.
        status: StatusCode,
    },
    /// A redirect from `https` to `http`.
    #[error("refused to follow a redirect from https to {to}")]
    InsecureRedirect {
        /// Where it points.
        to: Box<SafeUrl>,
    },
    /// More redirects than [`MAX_REDIRECTS`](super::MAX_REDIRECTS).
    #[error("gave up after {count} redirects")]
    TooManyRedirects {
        /// How many were followed.
        count: usize,
    },
    /// The body ended, or broke, before its end.
    #[error("the body ended early, after {received} bytes{}", of_expected(*.expected))]
    Truncated {
        /// Bytes handed out before.
        received: u64,
        /// Bytes that were announced, if any were.
        expected: Option<u64>,
    },
    /// The body is larger than the request permits.
    #[error("larger than the {limit} bytes that are permitted")]
    TooLarge {
        /// The permitted size.
        limit: u64,
    },
    /// The body trickles, or lasts longer than anything honest does.
    #[error("too slow: {received} bytes in {}", humantime::format_duration(*.waited))]
    TooSlow {
        /// Bytes handed out before.
        received: u64,
        /// Time spent waiting for them.
        waited: Duration,
    },
    /// The host failed so often that it is left alone for a while.
    #[error(
        "this host keeps failing and is not asked again for {}; the last time: {problem}",
        humantime::format_duration(Duration::from_secs(.retry_in.as_secs() + 1))
    )]
    CircuitOpen {
        /// How it failed last.
        problem: Arc<str>,
        /// When it will be asked again; zero while one request tries it out.
        retry_in: Duration,
    },
    /// Too many fetches were already running for too long.
    #[error("no turn came within {}", humantime::format_duration(*.waited))]
    Busy {
        /// How long it waited for its turn.
        waited: Duration,
    },
}

/// What was waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A connection, TLS and proxy included.
    Connection,
    /// The head of the answer.
    FirstByte,
    /// More of the body, after this many bytes.
    NextByte {
        /// Bytes handed out before.
        received: u64,
    },
}

impl FetchError {
    pub(super) fn new(url: &SafeUrl, kind: FetchErrorKind) -> Self {
        Self { url: Box::new(url.clone()), kind }
    }

    /// Whether the same fetch may work later, without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        match &self.kind {
            FetchErrorKind::Connect(_)
            | FetchErrorKind::Timeout(_)
            | FetchErrorKind::Interrupted { .. }
            | FetchErrorKind::Truncated { .. }
            | FetchErrorKind::TooSlow { .. }
            | FetchErrorKind::CircuitOpen { .. }
            | FetchErrorKind::Busy { .. } => true,
            FetchErrorKind::Status(status) => {
                status.is_server_error()
                    || [
                        StatusCode::REQUEST_TIMEOUT,
                        StatusCode::TOO_EARLY,
                        StatusCode::TOO_MANY_REQUESTS,
                    ]
                    .contains(status)
            }
            FetchErrorKind::UnusableUrl(_)
            | FetchErrorKind::Offline
            | FetchErrorKind::ForbiddenAddress { .. }
            | FetchErrorKind::Tls(_)
            | FetchErrorKind::BadRedirect { .. }
            | FetchErrorKind::InsecureRedirect { .. }
            | FetchErrorKind::TooManyRedirects { .. }
            | FetchErrorKind::TooLarge { .. } => false,
        }
    }

    /// Whether to ask again within the same fetch: it is transient, and upstream did not, in
    /// effect, ask to be left alone.
    pub(super) fn is_worth_asking_again(&self) -> bool {
        self.is_transient()
            && !matches!(
                self.kind,
                FetchErrorKind::CircuitOpen { .. }
                    | FetchErrorKind::Busy { .. }
                    | FetchErrorKind::Status(StatusCode::TOO_MANY_REQUESTS)
            )
    }

    /// Whether it says that the host, rather than this one URL, is in trouble.
    pub(super) fn is_the_hosts_fault(&self) -> bool {
        match &self.kind {
            FetchErrorKind::Connect(_)
            | FetchErrorKind::Tls(_)
            | FetchErrorKind::Timeout(_)
            | FetchErrorKind::Interrupted { .. }
            | FetchErrorKind::Truncated { .. }
            | FetchErrorKind::TooSlow { .. } => true,
            FetchErrorKind::Status(status) => status.is_server_error(),
            FetchErrorKind::UnusableUrl(_)
            | FetchErrorKind::Offline
            | FetchErrorKind::ForbiddenAddress { .. }
            | FetchErrorKind::BadRedirect { .. }
            | FetchErrorKind::InsecureRedirect { .. }
            | FetchErrorKind::TooManyRedirects { .. }
            | FetchErrorKind::TooLarge { .. }
            | FetchErrorKind::CircuitOpen { .. }
            | FetchErrorKind::Busy { .. } => false,
        }
    }
}

impl From<&ConnectError> for FetchErrorKind {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Resolve(ResolveError::Forbidden { host, source }) => {
                Self::ForbiddenAddress { host: host.clone(), source: *source }
            }
            ConnectError::TimedOut { .. } => Self::Timeout(Wait::Connection),
            ConnectError::Tls { .. } => Self::Tls(error.clone()),
            ConnectError::Resolve(_)
            | ConnectError::Unreachable { .. }
            | ConnectError::Interrupted { .. }
            | ConnectError::Proxy { .. } => Self::Connect(error.clone()),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("no connection within upstream.timeout"),
            Self::FirstByte => f.write_str("no head within upstream.timeout"),
            Self::NextByte { received } => {
                write!(f, "the body stalled after {received} bytes for upstream.timeout")
            }
        }
    }
}

fn of_expected(expected: Option<u64>) -> String {
    expected.map_or_else(String::new, |expected| format!(" of {expected}"))
}
