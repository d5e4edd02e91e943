//! A URL that never prints the credentials it carries.

use serde::{Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use url::Url;

/// A URL whose `Display` and `Debug` leave out user name and password.
///
/// Everything that is logged, stored or shown to a person goes through this type; only the code
/// that authenticates asks for [`SafeUrl::expose`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SafeUrl(Url);

impl SafeUrl {
    /// The URL with its credentials, for the request itself and for nothing else.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// The same URL without user name, password and fragment.
    pub fn public(&self) -> Url {
        let mut url = self.0.clone();
        // Both calls only fail for URLs that can't have a user, such as `file:` ones.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        url
    }
}

impl From<Url> for SafeUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

/// Why text is no URL that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SafeUrlError {
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] url::ParseError),
    /// As it is printed it is another one.
    #[error("it can be read in two ways")]
    Ambiguous,
}

impl FromStr for SafeUrl {
    type Err = SafeUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text)?;
        // The ledger has it as it is printed, so that has to be the same.
        match Url::parse(url.as_str()) {
            Ok(again) if again == url => Ok(Self(url)),
            _ => Err(SafeUrlError::Ambiguous),
        }
    }
}

impl<'de> Deserialize<'de> for SafeUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The text itself stays out of the message: it may hold a password.
        text.parse().map_err(|error| {
            serde::de::Error::custom(format!(
                "not a URL ({error}): write it with its scheme, as https://host/path, or \
                 file:///path for a directory"
            ))
        })
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.public(), f)
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_never_show() {
        let url: SafeUrl = "https://user:secret@host.example/path".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://host.example/path https://host.example/path");
        assert_eq!(url.expose().password(), Some("secret"));
    }

    #[test]
    fn what_is_another_url_once_it_is_printed_is_refused() {
        for text in ["file:\ne:\n.", "fil\n\ne:\ne:\n\n."] {
            let refused = text.parse::<SafeUrl>().unwrap_err();
            assert_eq!(refused, SafeUrlError::Ambiguous, "{text:?}");
        }
        for text in ["file:///srv/opam", "https://me:secret@host.example/a?b#c", "git+file:///a"] {
            assert!(text.parse::<SafeUrl>().is_ok(), "{text}");
        }
    }
}
