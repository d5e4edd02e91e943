//! Who is logged in on the web pages: a random cookie stands for a token, until either is over.

use crate::digest::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HeaderMap, HeaderValue};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All sessions of a running server; they end with it.
#[derive(Default)]
pub(super) struct Sessions {
    by_cookie: Mutex<HashMap<Sha256, Session>>,
}

/// One browser that showed a token.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The SHA-256 of the token's secret.
    pub token: Sha256,
    /// What every form of this session carries, so that no other site can write one.
    pub form_key: String,
    until: Instant,
}

impl Sessions {
    /// Begins a session for a token, given by the SHA-256 of its secret; the cookie to set.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub(super) fn begin(&self, token: Sha256) -> Result<HeaderValue, getrandom::Error> {
        let (cookie, form_key) = (random()?, random()?);
        let now = Instant::now();
        let session = Session { token, form_key, until: now + LIFETIME };
        let mut sessions = self.by_cookie.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now < session.until);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, it)| it.until).map(|(name, _)| *name)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(Sha256::of(cookie.as_bytes()), session);
        Ok(set_cookie(&cookie, LIFETIME))
    }

    /// The session of the browser that sent these headers.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<Session> {
        let name = Sha256::of(cookie(headers)?.as_bytes());
        let sessions = self.by_cookie.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&name).filter(|session| Instant::now() < session.until).cloned()
    }

    /// Ends it; the cookie to set.
    pub(super) fn end(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(cookie) = cookie(headers) {
            let mut sessions = self.by_cookie.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.remove(&Sha256::of(cookie.as_bytes()));
        }
        set_cookie("", Duration::ZERO)
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';'));
    let (_, value) = pairs.find_map(|pair| {
        pair.trim().split_once('=').filter(|(name, value)| *name == NAME && !value.is_empty())
    })?;
    Some(value)
}

/// RFC 6265bis: with this prefix a browser takes it from this very host over TLS alone. It goes
/// along when another site's link leads here, and with no form that another site sends.
fn set_cookie(value: &str, lifetime: Duration) -> HeaderValue {
    let seconds = lifetime.as_secs();
    let text = format!("{NAME}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    HeaderValue::from_str(&text).expect("base64 digits are a header")
}

fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

const NAME: &str = "__Host-opam-keep";
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
const MAX_SESSIONS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_back(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(COOKIE, format!("a=b; {pair}; c=d").parse().unwrap())])
    }

    #[test]
    fn a_session_is_there_from_login_to_logout() {
        let sessions = Sessions::default();
        let token = Sha256::of(b"secret");
        let headers = sent_back(&sessions.begin(token).unwrap());
        let other = sent_back(&sessions.begin(token).unwrap());
        let session = sessions.of(&headers).unwrap();
        assert_eq!(session.token, token);
        assert_ne!(session.form_key, sessions.of(&other).unwrap().form_key);
        assert!(sessions.of(&HeaderMap::new()).is_none());
        let ended = sessions.end(&headers);
        assert!(ended.to_str().unwrap().contains("Max-Age=0"));
        assert!(sessions.of(&headers).is_none() && sessions.of(&other).is_some());
        assert!(sessions.of(&sent_back(&ended)).is_none());
    }

    #[test]
    fn the_oldest_session_gives_way_when_there_are_too_many() {
        let sessions = Sessions::default();
        let first = sent_back(&sessions.begin(Sha256::of(b"")).unwrap());
        for _ in 0..MAX_SESSIONS {
            sessions.begin(Sha256::of(b"")).unwrap();
        }
        assert!(sessions.of(&first).is_none());
        assert_eq!(sessions.by_cookie.lock().unwrap().len(), MAX_SESSIONS);
    }
}
