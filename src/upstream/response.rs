//! What upstream answered, and its body as it comes.

use super::error::{FetchError, FetchErrorKind, Wait};
use super::hosts::Turn;
use super::pace::{Pace, PaceLimits};
use super::tally::{Counted, Outcome};
use crate::safe_url::SafeUrl;
use bytes::Bytes;
use http::header::{ETAG, HeaderName, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::Instant;

/// An answer whose body is still to come: status 200, or 304 for a conditional request.
///
/// Until its body has ended, or it is dropped, it occupies one of the host's turns.
#[derive(Debug)]
pub struct Response {
    /// 200, or 304 when the request was conditional.
    pub status: StatusCode,
    /// The `ETag` as upstream sent it.
    pub etag: Option<String>,
    /// The `Last-Modified` date as upstream sent it.
    pub last_modified: Option<String>,
    /// The body's length, where it is announced.
    pub content_length: Option<u64>,
    /// The URL that answered: the last of `chain`.
    pub url: SafeUrl,
    /// Every URL that was asked, from the request's own to the one that answered.
    pub chain: Vec<SafeUrl>,
    body: Body,
}

/// What bounds a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    pub(super) max_size: u64,
    pub(super) idle: Duration,
    pub(super) pace: PaceLimits,
}

#[derive(Debug)]
struct Body {
    incoming: Incoming,
    limits: BodyLimits,
    pace: Pace,
    received: u64,
    counted: Counted,
    state: State,
}

#[derive(Debug)]
enum State {
    Coming(Turn),
    Ended,
    /// Said again to whoever asks again, lest a broken body look like a whole one.
    Failed(FetchError),
}

impl Response {
    /// Takes over an answer, and the turn with its host.
    ///
    /// # Errors
    /// The announced length is larger than what is permitted.
    pub(super) fn new(
        answer: http::Response<Incoming>,
        chain: Vec<SafeUrl>,
        url: SafeUrl,
        limits: BodyLimits,
        turn: Turn,
        mut counted: Counted,
    ) -> Result<Self, FetchError> {
        let (head, incoming) = answer.into_parts();
        let not_modified = head.status == StatusCode::NOT_MODIFIED;
        let content_length = incoming.size_hint().exact().filter(|_| !not_modified);
        let state = if not_modified || content_length == Some(0) {
            turn.succeeded();
            counted.ended(Outcome::Ok);
            State::Ended
        } else if content_length.is_some_and(|length| length > limits.max_size) {
            turn.succeeded();
            counted.ended(Outcome::TooLarge);
            let kind = FetchErrorKind::TooLarge { limit: limits.max_size };
            return Err(FetchError::new(&url, kind));
        } else {
            State::Coming(turn)
        };
        Ok(Self {
            status: head.status,
            etag: text(&head.headers, ETAG),
            last_modified: text(&head.headers, LAST_MODIFIED),
            content_length,
            url,
            chain,
            body: Body {
                incoming,
                limits,
                pace: Pace::new(limits.pace),
                received: 0,
                counted,
                state,
            },
        })
    }

    /// Whether upstream says that nothing changed.
    pub fn is_not_modified(&self) -> bool {
        self.status == StatusCode::NOT_MODIFIED
    }

    /// How many bytes of the body were handed out so far.
    pub fn received(&self) -> u64 {
        self.body.received
    }

    /// The body's next bytes, exactly as upstream sent them; `None` once all of it has come.
    ///
    /// # Errors
    /// The body broke off, stalled, trickles or is too large. The same error comes again for
    /// every further call.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        match &self.body.state {
            State::Coming(_) => {}
            State::Ended => return Ok(None),
            State::Failed(error) => return Err(error.clone()),
        }
        let outcome = self.body.next(self.content_length).await;
        match &outcome {
            Ok(Some(chunk)) => self.body.counted.bytes(chunk.len()),
            Ok(None) => {
                self.body.counted.ended(Outcome::Ok);
                if let State::Coming(turn) = self.body.replace_state(State::Ended) {
                    turn.succeeded();
                }
            }
            Err(kind) => {
                self.body.counted.ended(Outcome::from(kind));
                let error = FetchError::new(&self.url, kind.clone());
                let at_fault = error.is_the_hosts_fault();
                if let State::Coming(turn) = self.body.replace_state(State::Failed(error))
                    && at_fault
                {
                    turn.failed(kind);
                }
            }
        }
        outcome.map_err(|kind| FetchError::new(&self.url, kind))
    }
}

impl Body {
    async fn next(&mut self, expected: Option<u64>) -> Result<Option<Bytes>, FetchErrorKind> {
        let received = self.received;
        let truncated = || FetchErrorKind::Truncated { received, expected };
        let asked = Instant::now();
        let data = tokio::time::timeout(self.limits.idle, next_data(&mut self.incoming))
            .await
            .map_err(|_| FetchErrorKind::Timeout(Wait::NextByte { received }))?;
        let Some(data) = data.map_err(|_| truncated())? else {
            return match expected {
                Some(expected) if expected != received => Err(truncated()),
                _ => Ok(None),
            };
        };
        let received = received.saturating_add(data.len() as u64);
        if received > self.limits.max_size {
            return Err(FetchErrorKind::TooLarge { limit: self.limits.max_size });
        }
        if !self.pace.is_kept(data.len(), asked.elapsed()) {
            let waited = self.pace.waited();
            return Err(FetchErrorKind::TooSlow { received: self.received, waited });
        }
        self.received = received;
        Ok(Some(data))
    }

    fn replace_state(&mut self, state: State) -> State {
        std::mem::replace(&mut self.state, state)
    }
}

/// The next bytes that are any, past empty frames and trailers.
async fn next_data(incoming: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = incoming.frame().await.transpose()? {
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
