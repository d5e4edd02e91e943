//! The `[alert]` section: who is told of what upstream did, and by what way.

use super::HumanDuration;
use crate::digest::Sha256;
use crate::safe_url::SafeUrl;
use lettre::message::Mailbox;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use url::Url;

/// The `[alert]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alert {
    /// For how long an upstream may give no good index before someone is told; at least twice the
    /// repository's `refresh`, whatever is set.
    pub stale_after: HumanDuration,
    /// How long one attempt to deliver an alert may take.
    pub timeout: HumanDuration,
    /// Those who are told by HTTP.
    pub webhook: Vec<Webhook>,
    /// Those who are told by e-mail.
    pub email: Vec<Email>,
    /// Programs that are told.
    pub command: Vec<Command>,
}

/// One `[[alert.webhook]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What it is called, in logs and on the command line.
    pub name: Option<SinkName>,
    /// Where alerts are posted to.
    pub url: Spanned<WebhookUrl>,
    /// A file with `whsec_` and the base64 of the key that signs each message.
    pub secret_file: Option<Spanned<PathBuf>>,
    /// What is posted.
    #[serde(default)]
    pub body: WebhookBody,
    /// Whether it is dialled directly, past `upstream.proxy`.
    #[serde(default)]
    pub direct: bool,
}

/// What a webhook is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookBody {
    /// The event as JSON, signed as standardwebhooks.com says.
    #[default]
    Standard,
    /// `{"text": …}`, as Slack and Mattermost take it.
    Slack,
}

/// One `[[alert.email]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// What it is called, in logs and on the command line.
    pub name: Option<SinkName>,
    /// `smtp://[user@]host[:port]` or `smtps://[user@]host[:port]`.
    pub server: Spanned<SafeUrl>,
    /// A file with the user's password.
    pub password_file: Option<Spanned<PathBuf>>,
    /// Whether mail may go unencrypted to a host that is not this one.
    #[serde(default)]
    pub plaintext: bool,
    /// Who sends.
    pub from: Address,
    /// Who receives; at least one.
    pub to: Spanned<Vec<Address>>,
}

/// One `[[alert.command]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// What it is called, in logs and on the command line.
    pub name: Option<SinkName>,
    /// The program and its arguments; no shell reads them.
    pub run: Spanned<Vec<String>>,
}

/// A sink's name: 1 to 64 of `a-z A-Z 0-9 - _ .`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SinkName(String);

/// Where alerts are posted to; whoever knows the whole URL may often post there, so only its
/// origin is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(SafeUrl);

/// An e-mail address, with or without a name before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Mailbox);

/// What is wrong with the section, and where.
pub(super) type Misplaced = (Range<usize>, String);

impl Default for Alert {
    fn default() -> Self {
        Self {
            stale_after: Duration::from_secs(24 * 60 * 60).into(),
            timeout: Duration::from_secs(30).into(),
            webhook: Vec::new(),
            email: Vec::new(),
            command: Vec::new(),
        }
    }
}

impl Alert {
    /// Checks what no single value can know.
    pub(super) fn check(&self) -> Result<(), Misplaced> {
        let mut names = BTreeSet::new();
        let mut is_new = |name: SinkName, place: Range<usize>| match names.insert(name.clone()) {
            true => Ok(()),
            false => Err((
                place,
                format!("a second sink of alerts that is {name}: give it another name"),
            )),
        };
        for webhook in &self.webhook {
            webhook.check()?;
            is_new(webhook.identity(), webhook.url.span())?;
        }
        for email in &self.email {
            email.check()?;
            is_new(email.identity(), email.server.span())?;
        }
        for command in &self.command {
            if command.run.get_ref().first().is_none_or(String::is_empty) {
                let message = "name a program and its arguments, such as [\"logger\", \"-t\", \
                               \"opam-keep\"]";
                return Err((command.run.span(), message.to_owned()));
            }
            is_new(command.identity(), command.run.span())?;
        }
        Ok(())
    }

    /// Every sink by its identity, with where it leads, without anything secret.
    pub fn sinks(&self) -> Vec<(SinkName, String)> {
        let webhooks = self.webhook.iter().map(|it| (it.identity(), it.address()));
        let emails = self.email.iter().map(|it| (it.identity(), it.address()));
        let commands = self.command.iter().map(|it| (it.identity(), it.address()));
        webhooks.chain(emails).chain(commands).collect()
    }

    /// The files with secrets, each with its place.
    pub fn secret_files(&self) -> impl Iterator<Item = &Spanned<PathBuf>> {
        let secrets = self.webhook.iter().filter_map(|webhook| webhook.secret_file.as_ref());
        secrets.chain(self.email.iter().filter_map(|email| email.password_file.as_ref()))
    }
}

impl Webhook {
    /// What it is known by, in whatever order sinks are listed.
    pub fn identity(&self) -> SinkName {
        SinkName::or_hash(&self.name, "webhook", self.url.get_ref().expose().expose().as_str())
    }

    /// Where it leads, without anything secret.
    pub fn address(&self) -> String {
        self.url.get_ref().to_string()
    }

    fn check(&self) -> Result<(), Misplaced> {
        let place = self.url.span();
        if !matches!(self.url.get_ref().expose().expose().scheme(), "https" | "http") {
            return Err((place, "a webhook is an https:// or http:// URL".to_owned()));
        }
        if self.body == WebhookBody::Standard && self.secret_file.is_none() {
            let message = "a standard webhook is signed: name a secret_file, or set body = \
                           \"slack\"";
            return Err((place, message.to_owned()));
        }
        Ok(())
    }
}

impl Email {
    /// What it is known by, in whatever order sinks are listed.
    pub fn identity(&self) -> SinkName {
        let mut address = self.server.get_ref().expose().to_string();
        for to in self.to.get_ref() {
            address.push_str(&format!(" {}", to.mailbox()));
        }
        SinkName::or_hash(&self.name, "email", &address)
    }

    /// Where it leads.
    pub fn address(&self) -> String {
        let to = self.to.get_ref().iter().map(|to| to.mailbox().email.to_string());
        to.collect::<Vec<_>>().join(", ")
    }

    fn check(&self) -> Result<(), Misplaced> {
        let url = self.server.get_ref().expose();
        let message = if !matches!(url.scheme(), "smtp" | "smtps") || url.host_str().is_none() {
            "a mail server is smtp://[user@]host[:port] or smtps://[user@]host[:port]"
        } else if url.password().is_some() {
            "a password is no part of the URL: put it into a file and name that as password_file"
        } else if url.username().is_empty() != self.password_file.is_none() {
            "a user and a password_file go together: name both, or neither"
        } else if self.to.get_ref().is_empty() {
            return Err((self.to.span(), "name at least one address".to_owned()));
        } else {
            return Ok(());
        };
        Err((self.server.span(), message.to_owned()))
    }
}

impl Command {
    /// What it is known by, in whatever order sinks are listed.
    pub fn identity(&self) -> SinkName {
        SinkName::or_hash(&self.name, "command", &self.run.get_ref().join("\0"))
    }

    /// The program.
    pub fn address(&self) -> String {
        self.run.get_ref().first().cloned().unwrap_or_default()
    }
}

impl SinkName {
    /// The name as text; it can be a file's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that was given, or one made of what is told.
    fn or_hash(name: &Option<Self>, kind: &str, address: &str) -> Self {
        name.clone().unwrap_or_else(|| {
            let hash = Sha256::of(address.as_bytes()).to_string();
            Self(format!("{kind}-{}", &hash[..8]))
        })
    }
}

impl FromStr for SinkName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        match starts_well && name.chars().all(allowed) && name.len() <= 64 {
            true => Ok(Self(name.to_owned())),
            false => Err("a name of 1 to 64 letters, digits, '-', '_' or '.'"),
        }
    }
}

impl<'de> Deserialize<'de> for SinkName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|expected| D::Error::invalid_value(Unexpected::Str(&text), &expected))
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl WebhookUrl {
    /// The whole URL, for the request itself and for nothing else.
    pub fn expose(&self) -> &SafeUrl {
        &self.0
    }
}

impl<'de> Deserialize<'de> for WebhookUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SafeUrl::deserialize(deserializer).map(Self)
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url: &Url = self.0.expose();
        write!(f, "{}/…", url.origin().ascii_serialization())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Address {
    /// The address as mail programs know it.
    pub fn mailbox(&self) -> &Mailbox {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected =
            "an e-mail address such as \"ops@corp.example\" or \"Ops <ops@corp.example>\"";
        let mailbox = text.parse().ok().filter(|_| !text.contains(char::is_control));
        mailbox.map(Self).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(text: &str) -> Result<Alert, String> {
        let alert: Alert = toml::from_str(text).map_err(|error| error.to_string())?;
        alert.check().map_err(|(_, message)| message)?;
        Ok(alert)
    }

    #[test]
    fn a_sink_keeps_its_identity_wherever_it_stands() {
        let (one, two) = (
            "[[webhook]]\nurl = \"https://a/\"\nbody = \"slack\"\n",
            "[[webhook]]\nurl = \"https://b/\"\nbody = \"slack\"\n",
        );
        let names = |text: &str| {
            let names = alert(text).unwrap().webhook.into_iter().map(|it| it.identity());
            names.collect::<Vec<_>>()
        };
        let (forth, mut back) = (names(&format!("{one}{two}")), names(&format!("{two}{one}")));
        back.reverse();
        assert_eq!(forth, back);
        assert!(forth[0].as_str().starts_with("webhook-"));
    }

    #[test]
    fn what_can_not_be_meant_is_said() {
        let email = "[[email]]\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\nserver = ";
        for (text, expected) in [
            ("[[webhook]]\nurl = \"https://h/\"", "name a secret_file"),
            ("[[webhook]]\nurl = \"ftp://h/\"\nbody = \"slack\"", "https:// or http:// URL"),
            ("[[webhook]]\nurl = \"https://h/\"\nbody = \"teams\"", "unknown variant `teams`"),
            ("[[webhook]]\nurl = \"https://h/\"\nname = \"a/b\"", "a name of 1 to 64"),
            ("[[command]]\nrun = []", "name a program"),
            ("[[command]]\nrun = [\"a\"]\n[[command]]\nrun = [\"a\"]", "give it another name"),
            (&format!("{email}\"https://h\""), "a mail server is"),
            (&format!("{email}\"smtp://u:p@h\""), "a password is no part"),
            (&format!("{email}\"smtp://u@h\""), "go together"),
            (
                "[[email]]\nserver = \"smtp://h\"\nfrom = \"a\\r\\nb@c.example\"",
                "an e-mail address",
            ),
            ("[[email]]\nserver = \"smtp://h\"\nfrom = \"a@b.example\"\nto = []", "at least one"),
            ("stale_aftr = \"1d\"", "unknown field `stale_aftr`"),
        ] {
            let error = alert(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_in_urls_never_show() {
        let text = "[[webhook]]\nurl = \"https://u:hush@hooks.example/services/T0/quiet\"\n\
                    body = \"slack\"\n";
        let printed = format!("{:?}", alert(text).unwrap());
        assert!(printed.contains("https://hooks.example/…"), "{printed}");
        assert!(!printed.contains("quiet") && !printed.contains("hush"), "{printed}");
    }
}
