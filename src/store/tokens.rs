//! Access tokens: who may ask, known by the hash of a secret that only they have.
//!
//! A secret is 256 random bits, so its SHA-256 says nothing about it and needs no salt. The list is
//! one file in `keys/`, replaced as a whole.

use super::durable;
use super::layout::Layout;
use crate::digest::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::str::FromStr;
use thiserror::Error;

/// One token; without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it is called.
    pub name: TokenName,
    /// What it is good for.
    pub role: Role,
    /// The SHA-256 of its secret.
    pub sha256: Sha256,
    /// When it was made.
    pub at: Timestamp,
    /// Until when it is good; for ever without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reading.
    Read,
    /// Reading and deciding.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

/// A token's name: 1 to 64 of `a-z A-Z 0-9 - _ . @`. It is logged, and stands in decisions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TokenName(String);

impl TokenName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
        match !name.is_empty() && name.len() <= 64 && name.chars().all(allowed) {
            true => Ok(Self(name.to_owned())),
            false => Err("a token's name is 1 to 64 of a-z A-Z 0-9 - _ . @"),
        }
    }
}

impl<'de> Deserialize<'de> for TokenName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A token's secret, which is shown once and kept nowhere.
pub struct Secret(String);

impl Secret {
    fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text to show.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// All tokens of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(Vec<Token>);

/// Why tokens can't be read or changed.
#[derive(Debug, Error)]
pub enum TokensError {
    /// There is one of this name.
    #[error("there is a token \"{0}\" already: revoke it first, or choose another name")]
    Exists(TokenName),
    /// There is none of this name.
    #[error("there is no token \"{0}\"; opam-keep token list names them")]
    Unknown(TokenName),
    /// There are as many as there may be.
    #[error("there are {MAX_TOKENS} tokens already: revoke some first")]
    TooMany,
    /// The list can't be read.
    #[error(
        "{path} can't be read, so no token is good: {problem}: restore it from a backup, or \
         remove it and make new tokens with opam-keep token add"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The file system fails, or gives no random numbers.
    #[error("{path}: {source}")]
    Io {
        /// On what.
        path: String,
        /// How.
        source: io::Error,
    },
}

impl Tokens {
    /// Reads the list; empty where there is none.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(layout: &Layout) -> Result<Self, TokensError> {
        let path = layout.tokens();
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => {
                let read = opened.and_then(|file| file.take(MAX_SIZE).read_to_end(&mut bytes));
                read.map_err(|source| TokensError::Io { path: name.clone(), source })?;
            }
        }
        let read = serde_json::from_slice(&bytes);
        read.map_err(|error| TokensError::Unreadable { path: name, problem: error.to_string() })
    }

    /// The token that has this secret, if it is good now.
    pub fn of(&self, secret: &str, now: Timestamp) -> Option<&Token> {
        // Whoever learns from the time it takes how much of a hash they guessed learns no secret.
        self.with_hash(&Sha256::of(secret.as_bytes()), now)
    }

    /// The token whose secret has this SHA-256, if it is good now.
    pub fn with_hash(&self, sha256: &Sha256, now: Timestamp) -> Option<&Token> {
        let found = self.0.iter().find(|token| token.sha256 == *sha256);
        found.filter(|token| token.expires.is_none_or(|expires| now < expires))
    }

    /// All of them, by name.
    pub fn all(&self) -> &[Token] {
        &self.0
    }
}

/// Makes a token and says its secret.
///
/// # Errors
/// When there is one of that name, or the list can't be written.
pub fn add(
    layout: &Layout,
    name: TokenName,
    role: Role,
    at: Timestamp,
    expires: Option<Timestamp>,
) -> Result<Secret, TokensError> {
    change(layout, |tokens| {
        if tokens.iter().any(|token| token.name == name) {
            return Err(TokensError::Exists(name));
        }
        if tokens.len() >= MAX_TOKENS {
            return Err(TokensError::TooMany);
        }
        let secret = Secret::random().map_err(|error| TokensError::Io {
            path: "random numbers".to_owned(),
            source: io::Error::other(error.to_string()),
        })?;
        let sha256 = Sha256::of(secret.expose().as_bytes());
        tokens.push(Token { name, role, sha256, at, expires });
        tokens.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(secret)
    })
}

/// Makes a token good for nothing.
///
/// # Errors
/// When there is none of that name, or the list can't be written.
pub fn revoke(layout: &Layout, name: &TokenName) -> Result<(), TokensError> {
    change(layout, |tokens| {
        let place = tokens.iter().position(|token| token.name == *name);
        tokens.remove(place.ok_or_else(|| TokensError::Unknown(name.clone()))?);
        Ok(())
    })
}

/// Reads the list, changes it and writes it, alone.
fn change<T>(
    layout: &Layout,
    change: impl FnOnce(&mut Vec<Token>) -> Result<T, TokensError>,
) -> Result<T, TokensError> {
    let path = layout.tokens();
    let failed = |source| TokensError::Io { path: path.display().to_string(), source };
    let directory = layout.keys();
    durable::create_directory(&directory).map_err(failed)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    let lock = File::open(&directory).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let mut tokens = Tokens::read(layout)?;
    let changed = change(&mut tokens.0)?;
    let bytes = serde_json::to_vec_pretty(&tokens).map_err(|error| failed(error.into()))?;
    durable::write(&path, &bytes, 0o600).map_err(failed)?;
    Ok(changed)
}

/// What secrets begin with, so that they are known where they should not be.
const PREFIX: &str = "opamkeep_";
const MAX_TOKENS: usize = 10_000;
/// Longest list that is read, in bytes.
const MAX_SIZE: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_is_revoked_or_over() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let now: Timestamp = "2026-05-20T12:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-05-21T12:00:00Z".parse().unwrap();
        let name = |name: &str| name.parse::<TokenName>().unwrap();
        let ever = add(&layout, name("ci"), Role::Read, now, None).unwrap();
        let short = add(&layout, name("admin"), Role::Admin, now, Some(later)).unwrap();
        assert!(matches!(
            add(&layout, name("ci"), Role::Admin, now, None),
            Err(TokensError::Exists(_))
        ));
        let tokens = Tokens::read(&layout).unwrap();
        assert_eq!(tokens.of(ever.expose(), later).map(|it| it.role), Some(Role::Read));
        assert_eq!(tokens.of(short.expose(), now).map(|it| it.role), Some(Role::Admin));
        assert_eq!(tokens.of(short.expose(), later), None);
        assert_eq!(tokens.of("", now), None);
        assert_eq!(tokens.of(&ever.expose()[1..], now), None);
        let file = std::fs::read_to_string(layout.tokens()).unwrap();
        assert!(!file.contains(ever.expose()) && !file.contains("opamkeep_"));
        assert_eq!(layout.tokens().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        revoke(&layout, &name("ci")).unwrap();
        assert!(matches!(revoke(&layout, &name("ci")), Err(TokensError::Unknown(_))));
        assert_eq!(Tokens::read(&layout).unwrap().of(ever.expose(), now), None);
    }

    #[test]
    fn a_name_is_one_that_can_stand_anywhere() {
        for name in ["", "a b", "a:b", "é", "a\n", &"a".repeat(65)] {
            assert!(name.parse::<TokenName>().is_err(), "{name}");
        }
        assert!("ci-runner_1.farm@corp".parse::<TokenName>().is_ok());
    }
}
