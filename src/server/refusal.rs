//! Requests that are refused, and what to tell who sent them.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

/// A request that is refused, with what to tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub message: &'static str,
    /// What would be understood, where the method was not.
    methods: Option<Methods>,
}

/// The methods by which a path is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Methods {
    /// It is read.
    Read,
    /// Something is sent to it.
    Send,
    /// Either.
    Both,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message, methods: None }
    }

    pub(super) const fn bad(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) const fn not_found(message: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Another method was asked by than these.
    pub(super) const fn other_method(methods: Methods) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: methods.sentence(),
            methods: Some(methods),
        }
    }

    /// Adds what the answer says beside status and message, however it is written.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(methods) = self.methods {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods.names()));
        }
    }
}

impl Methods {
    const fn names(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD",
            Self::Send => "POST",
            Self::Both => "GET, HEAD, POST",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Read => "only GET and HEAD are understood here",
            Self::Send => "only POST is understood here",
            Self::Both => "only GET, HEAD and POST are understood here",
        }
    }
}
