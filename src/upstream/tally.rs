//! How often hosts were asked and what came of it, for whoever watches this process.

use super::error::FetchErrorKind;
use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{IntCounterVec, Opts};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What came of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200 or 304, and all of the body.
    Ok,
    /// A redirect.
    Redirect,
    /// 404 or 410.
    NotFound,
    /// Another status from 400 to 499.
    ClientError,
    /// A status from 500 on.
    ServerError,
    /// No connection.
    Connect,
    /// A connection, but no TLS on it.
    Tls,
    /// Silence, or a trickle.
    Timeout,
    /// The connection broke before the end.
    Interrupted,
    /// A body that is larger than permitted.
    TooLarge,
    /// Nobody was asked: forbidden, left alone for a while, or no turn came.
    Refused,
    /// Whoever asked did not want the rest.
    Abandoned,
}

/// Counts requests by host and outcome, and the bytes of their bodies by host.
///
/// Shared by all clones of a client. The names come from others, so only so many are told apart.
#[derive(Debug)]
pub struct Tally {
    requests: IntCounterVec,
    bytes: IntCounterVec,
    hosts: Mutex<HashSet<String>>,
}

/// One request whose body is still to come.
#[derive(Debug)]
pub(super) struct Counted {
    tally: Arc<Tally>,
    host: String,
    outcome: Outcome,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Redirect,
        Self::NotFound,
        Self::ClientError,
        Self::ServerError,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Interrupted,
        Self::TooLarge,
        Self::Refused,
        Self::Abandoned,
    ];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Redirect => "redirect",
            Self::NotFound => "not-found",
            Self::ClientError => "client-error",
            Self::ServerError => "server-error",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::TooLarge => "too-large",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
        }
    }
}

impl From<StatusCode> for Outcome {
    fn from(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Self::NotFound,
            status if status.is_redirection() => Self::Redirect,
            status if status.is_client_error() => Self::ClientError,
            status if status.is_success() => Self::Ok,
            _ => Self::ServerError,
        }
    }
}

impl From<&FetchErrorKind> for Outcome {
    fn from(kind: &FetchErrorKind) -> Self {
        match kind {
            FetchErrorKind::Connect(_) => Self::Connect,
            FetchErrorKind::Tls(_) => Self::Tls,
            FetchErrorKind::Timeout(_) | FetchErrorKind::TooSlow { .. } => Self::Timeout,
            FetchErrorKind::Interrupted { .. } | FetchErrorKind::Truncated { .. } => {
                Self::Interrupted
            }
            FetchErrorKind::TooLarge { .. } => Self::TooLarge,
            FetchErrorKind::Status(status) => (*status).into(),
            FetchErrorKind::BadRedirect { .. }
            | FetchErrorKind::InsecureRedirect { .. }
            | FetchErrorKind::TooManyRedirects { .. } => Self::Redirect,
            FetchErrorKind::UnusableUrl(_)
            | FetchErrorKind::Offline
            | FetchErrorKind::ForbiddenAddress { .. }
            | FetchErrorKind::CircuitOpen { .. }
            | FetchErrorKind::Busy { .. } => Self::Refused,
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        let counters = |name, help, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("a metric has a valid name")
        };
        Self {
            requests: counters(
                "opam_keep_upstream_requests_total",
                "Requests to upstream hosts, by what came of them",
                &["host", "outcome"],
            ),
            bytes: counters(
                "opam_keep_upstream_bytes_total",
                "Bytes of bodies that upstream hosts sent",
                &["host"],
            ),
            hosts: Mutex::default(),
        }
    }
}

impl Tally {
    /// Has a host counted from 0 on, before it is asked.
    pub fn expect(&self, host: &str) {
        let host = self.label(host);
        for outcome in Outcome::ALL {
            self.requests.with_label_values(&[host.as_str(), outcome.as_str()]);
        }
        self.bytes.with_label_values(&[host.as_str()]);
    }

    /// What a registry collects.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.requests.clone()), Box::new(self.bytes.clone())]
    }

    pub(super) fn count(&self, host: &str, outcome: Outcome) {
        let host = self.label(host);
        self.requests.with_label_values(&[host.as_str(), outcome.as_str()]).inc();
    }

    /// Begins to count a request by what becomes of its body.
    pub(super) fn begin(self: &Arc<Self>, host: &str) -> Counted {
        let (tally, host) = (Arc::clone(self), self.label(host));
        Counted { tally, host, outcome: Outcome::Abandoned }
    }

    fn label(&self, host: &str) -> String {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.contains(host) {
            return host.to_owned();
        }
        if hosts.len() >= MAX_HOSTS {
            return OTHERS.to_owned();
        }
        hosts.insert(host.to_owned());
        host.to_owned()
    }
}

impl Counted {
    pub(super) fn bytes(&self, count: usize) {
        self.tally.bytes.with_label_values(&[self.host.as_str()]).inc_by(count as u64);
    }

    pub(super) fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let labels = [self.host.as_str(), self.outcome.as_str()];
        self.tally.requests.with_label_values(&labels).inc();
    }
}

/// How many hosts are told apart; opam's own repository names some eighty.
const MAX_HOSTS: usize = 256;
const OTHERS: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_hosts_are_told_apart_and_no_more() {
        let tally = Tally::default();
        for number in 0..MAX_HOSTS + 10 {
            tally.count(&format!("{number}.example"), Outcome::Ok);
        }
        let of = |host| tally.requests.with_label_values(&[host, "ok"]).get();
        assert_eq!((of("3.example"), of(OTHERS)), (1, 10));
    }

    #[test]
    fn a_request_is_counted_once_by_what_became_of_its_body() {
        let tally = Arc::new(Tally::default());
        let of = |outcome: Outcome| {
            tally.requests.with_label_values(&["a.example", outcome.as_str()]).get()
        };
        drop(tally.begin("a.example"));
        let mut counted = tally.begin("a.example");
        counted.bytes(7);
        counted.ended(Outcome::Ok);
        drop(counted);
        assert_eq!((of(Outcome::Abandoned), of(Outcome::Ok)), (1, 1));
        assert_eq!(tally.bytes.with_label_values(&["a.example"]).get(), 7);
    }
}
