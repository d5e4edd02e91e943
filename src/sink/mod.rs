//! Everything that carries an alert to people: webhooks, e-mail, commands.
//!
//! This floor knows how to hand one alert to one sink, and says whether the sink took it and, if
//! not, whether to try again. It decides nothing: what is told, to whom, when and how often is the
//! keeper's. It promises:
//!
//! - One attempt takes a bounded time and memory, whatever the other side does.
//! - An alert that is handed over again is the same one: its id never changes.
//! - Secrets come from files, leave for their own sink only, and print nowhere.

mod alert;
mod command;
mod email;
mod secret;
mod webhook;

pub use alert::Alert;
pub use secret::SecretError;

use crate::archive::is_deceptive;
use crate::config::{Config, SinkName};
use crate::upstream::SetupError;
use command::Command;
use email::Email;
use std::time::Duration;
use thiserror::Error;
use webhook::Webhook;

/// One place that is told of alerts.
#[derive(Debug)]
pub struct Sink {
    name: SinkName,
    address: String,
    timeout: Duration,
    carrier: Carrier,
}

#[derive(Debug)]
enum Carrier {
    Webhook(Box<Webhook>),
    Email(Box<Email>),
    Command(Command),
}

/// Why a sink can't be set up.
#[derive(Debug, Error)]
pub enum SinkError {
    /// A file with a secret can't be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The HTTP client can't be set up.
    #[error(transparent)]
    Client(#[from] SetupError),
    /// The mail server can't be used.
    #[error("the mail server of the sink {name} can't be used: {reason}")]
    Email {
        /// The sink.
        name: SinkName,
        /// What is wrong.
        reason: String,
    },
}

/// Why an alert was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeliveryError {
    /// It may be taken later.
    #[error("{reason}")]
    Unavailable {
        /// What went wrong.
        reason: String,
        /// When to come back, if the sink says so.
        retry_after: Option<Duration>,
    },
    /// The sink is there, and wants no such thing.
    #[error("{reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
}

impl Sink {
    /// All sinks that mirror.toml names.
    ///
    /// # Errors
    /// When a secret or a mail server can't be used.
    pub fn all(config: &Config) -> Result<Vec<Self>, SinkError> {
        let (alert, upstream) = (&config.alert, &config.upstream);
        let timeout = alert.timeout.get();
        let mut sinks = Vec::new();
        let mut add = |name, address, carrier| {
            sinks.push(Self { name, address, timeout, carrier });
        };
        for settings in &alert.webhook {
            let webhook = Webhook::new(settings, upstream)?;
            add(settings.identity(), settings.address(), Carrier::Webhook(Box::new(webhook)));
        }
        for settings in &alert.email {
            let email = Email::new(settings, upstream, timeout)?;
            add(settings.identity(), settings.address(), Carrier::Email(Box::new(email)));
        }
        for settings in &alert.command {
            let command = Command::new(settings.run.get_ref());
            add(settings.identity(), settings.address(), Carrier::Command(command));
        }
        Ok(sinks)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Where it leads, without anything secret.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Hands over an alert; returns once the sink has acknowledged it.
    ///
    /// # Errors
    /// Why it was not taken. It may have been all the same: then it is handed over once more.
    pub async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        let delivery = async {
            match &self.carrier {
                Carrier::Webhook(webhook) => webhook.deliver(alert).await,
                Carrier::Email(email) => email.deliver(alert).await,
                Carrier::Command(command) => command.deliver(alert).await,
            }
        };
        tokio::time::timeout(self.timeout, delivery).await.unwrap_or_else(|_| {
            let bound = humantime::format_duration(self.timeout);
            Err(DeliveryError::unavailable(format!("it took longer than {bound} (alert.timeout)")))
        })
    }
}

impl DeliveryError {
    fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), retry_after: None }
    }

    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

/// Text from outside as one short line, without characters that show otherwise than they are.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || is_deceptive(c));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(MAX_LINE).collect()
}

/// The files that other users may read, although they hold a secret.
pub fn exposed_secrets(config: &Config) -> Vec<String> {
    let files = config.alert.secret_files().map(|file| file.get_ref());
    let exposed = files.filter(|file| secret::is_exposed(file));
    exposed.map(|file| file.display().to_string()).collect()
}

const MAX_LINE: usize = 300;
