//! One recheck: a subject's bytes fetched in full and held against what is pinned.

use super::super::attempt::{self, Attempt, Observation, Question};
use super::super::pinning::short;
use super::super::{Keeper, divergences};
use crate::digest::Sha256;
use crate::ledger::entry::{DivergenceKind, Observed, Outcome, Pin};
use crate::opam::Checksum;
use crate::store::Accepted;
use crate::store::blobs::Hashed;
use crate::store::catalog::{IndexError, Kept, Last, Subject};
use crate::upstream::{Awaited, FetchErrorKind};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;
use url::Url;

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Nobody waits: what can't be reached is asked again later before that counts.
    Schedule,
    /// A person waits: what can't be reached is asked again at once, and then it counts.
    Person,
}

/// What came of one recheck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// The URL.
    pub url: String,
    /// The repository whose metadata declares it.
    pub repository: String,
    /// Packages that use it.
    pub packages: Vec<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// What had come of it before.
    pub before: Outcome,
    /// The same in words.
    pub detail: String,
    /// The ledger index of the divergence, when other bytes came.
    pub divergence: Option<u64>,
}

/// Why nothing can be said of a subject now; it stays due.
#[derive(Clone, Debug, Error, Serialize, Deserialize)]
pub enum CheckError {
    /// Its host is left alone for now.
    #[error("{url} was not asked: {reason}")]
    Postponed {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// Our own store failed.
    #[error("{url} can't be rechecked: {reason}")]
    Store {
        /// The URL.
        url: String,
        /// How.
        reason: String,
    },
}

impl CheckError {
    /// The URL.
    pub fn url(&self) -> &str {
        match self {
            Self::Postponed { url, .. } | Self::Store { url, .. } => url,
        }
    }
}

/// What upstream said, before it is in the ledger.
pub(super) struct Seen {
    pub outcome: Outcome,
    pub detail: String,
    pub divergence: Option<u64>,
}

/// The pins that say what has to come.
#[derive(Clone)]
struct Pinned {
    /// The URL's own first pin, if it ever was asked.
    own: Option<Kept>,
    /// That pin, or the one whose metadata declares the URL.
    pin: Pin,
    /// How many entries the ledger had when the URL last gave what is pinned.
    good_at: u64,
}

impl Keeper {
    /// Fetches a subject and notes what came of it.
    ///
    /// # Errors
    /// When nothing can be said of it now.
    pub(super) async fn check(
        self: &Arc<Self>,
        subject: Subject,
        last: Last,
        asker: Asker,
    ) -> Result<Checked, CheckError> {
        let pinned =
            self.pinned(&subject, last).await.map_err(|reason| failed(&subject, reason))?;
        let mut seen = self.look(&subject, &pinned, asker).await?;
        let again =
            seen.outcome == Outcome::Unreachable && last.outcome_before() != Outcome::Unreachable;
        // That its host is left alone by now changes nothing of what was seen.
        if again
            && asker == Asker::Person
            && let Ok(second) = self.look(&subject, &pinned, asker).await
        {
            seen = second;
        }
        self.note(subject, &pinned.pin, seen, asker).await
    }

    /// Reads the pins of a subject.
    async fn pinned(&self, subject: &Subject, last: Last) -> Result<Pinned, String> {
        let known = self
            .store
            .lookup(|catalog| Ok((catalog.pin(&subject.url)?, catalog.last_recheck(subject)?)));
        let (own, now) = known.map_err(|error: IndexError| error.to_string())?;
        let index = own.map_or(last.pin, |own| own.entry);
        // Someone else may have asked since it was chosen.
        let good_at = now.unwrap_or(last).good_at;
        Ok(Pinned { own, pin: self.pin_at(index).await?, good_at })
    }

    /// Asks upstream once.
    async fn look(
        self: &Arc<Self>,
        subject: &Subject,
        pinned: &Pinned,
        asker: Asker,
    ) -> Result<Seen, CheckError> {
        let Ok(source) = Url::parse(&subject.url) else {
            return Err(failed(subject, "it is no URL"));
        };
        // More than is pinned is too much, whatever may be fetched by now.
        let max_size = self.max_archive_size.max(pinned.pin.size.saturating_add(1));
        let bandwidth = Some(&self.rechecking.bandwidth);
        let awaited = &Awaited::by_none();
        let question = Question { source: &source, declared: &[], max_size, awaited, bandwidth };
        match attempt::fetch(self, &question, |_| {}).await {
            Attempt::Sound { hashed, from } => {
                let size = hashed.digests().size;
                let seen = self.compare(subject, pinned, hashed, short(from)).await;
                let seen = seen.map_err(|reason| failed(subject, reason))?;
                self.rechecking.count(seen.outcome, size);
                Ok(seen)
            }
            Attempt::Diverged(observation) => {
                let seen = self.refused(subject, pinned, observation).await;
                let seen = seen.map_err(|reason| failed(subject, reason))?;
                self.rechecking.count(seen.outcome, 0);
                Ok(seen)
            }
            // Announced as more than it may be, which is more than is pinned.
            Attempt::Unavailable(kind @ FetchErrorKind::TooLarge { .. }) => {
                let observation = Observation {
                    what: DivergenceKind::TooLarge,
                    from: subject.url.clone(),
                    observed: None,
                    evidence: None,
                    detail: kind.to_string(),
                };
                let seen = self.refused(subject, pinned, observation).await;
                let seen = seen.map_err(|reason| failed(subject, reason))?;
                self.rechecking.count(seen.outcome, 0);
                Ok(seen)
            }
            Attempt::Unavailable(kind) => {
                let outcome = outcome_of(&kind, asker)
                    .map_err(|reason| CheckError::Postponed { url: subject.url.clone(), reason })?;
                self.rechecking.count(outcome, 0);
                Ok(Seen { outcome, detail: kind.to_string(), divergence: None })
            }
            Attempt::Failed(reason) => Err(failed(subject, reason)),
        }
    }

    /// Holds whole bytes against the pins.
    async fn compare(
        self: &Arc<Self>,
        subject: &Subject,
        pinned: &Pinned,
        hashed: Hashed,
        from: String,
    ) -> Result<Seen, String> {
        let (store, sha256) = (&self.store, hashed.digests().sha256);
        let own = store.lookup(|catalog| catalog.pin_to(&subject.url, &sha256));
        if let Some(own) = own.map_err(|error| error.to_string())? {
            if let Some(served) = self.served_instead(subject, &sha256).await? {
                let pinned = Pinned { own: Some(served), ..pinned.clone() };
                return self.diverged(subject, &pinned, hashed, from).await;
            }
            let first_from = self.pin_at(own.entry).await?.from;
            let (outcome, detail) = match place(&first_from) == place(&from) {
                true => (Outcome::Same, "it gives the pinned bytes".to_owned()),
                false => (Outcome::Moved, format!("{from} gives the pinned bytes")),
            };
            return Ok(Seen { outcome, detail, divergence: None });
        }
        let declared = store.lookup(|catalog| catalog.pin_naming(subject, &sha256));
        let declared = declared.map_err(|error| error.to_string())?;
        let Some(declared) = declared else {
            return self.diverged(subject, pinned, hashed, from).await;
        };
        let pin = self.pin_also(subject, declared, &from).await?;
        let Some(own) = pinned.own else {
            // Its bytes came from elsewhere so far: this is its own first fetch.
            if self.is_for_others(pinned, &pin).await {
                let seen = self.diverged(subject, pinned, hashed, from).await?;
                self.append_pin(pin, Accepted::Never).await?;
                return Ok(seen);
            }
            self.append_pin(pin, Accepted::Never).await?;
            let detail = "it gives the bytes that another source gave first".to_owned();
            return Ok(Seen { outcome: Outcome::Same, detail, divergence: None });
        };
        // Metadata declares them by now: they are pinned beside the first ones.
        let accepted = match pinned.pin.repository == pin.repository {
            true => self.accepted_bytes(&pin, &pinned.pin.packages).await,
            false => None,
        };
        if let Some(accepted) = accepted {
            if let Some(entry) = self.append_pin(pin, Accepted::Over(own.sha256)).await? {
                self.acknowledge_same(accepted, entry).await;
            }
            let detail = "it gives the bytes that were accepted in place of the pinned ones";
            return Ok(Seen {
                outcome: Outcome::Same,
                detail: detail.to_owned(),
                divergence: None,
            });
        }
        let seen = self.diverged(subject, pinned, hashed, from).await?;
        self.append_pin(pin, Accepted::Never).await?;
        Ok(seen)
    }

    /// Whether the first bytes that a URL itself gives are others than came from elsewhere before, and
    /// not accepted for all who declare it for those.
    async fn is_for_others(&self, pinned: &Pinned, pin: &Pin) -> bool {
        pinned.pin.sha256 != pin.sha256
            && self.has_others(pin).await
            && self.accepted_bytes(pin, &[]).await.is_none()
    }

    /// What is served to those who declare a subject now, where nobody means the bytes by it that
    /// were pinned there once.
    async fn served_instead(
        &self,
        subject: &Subject,
        sha256: &Sha256,
    ) -> Result<Option<Kept>, String> {
        let Subject { repository, url } = subject;
        let served = self.declaring().await.map_err(|error| error.to_string())?;
        if !served.contains(repository) {
            return Ok(None);
        }
        let instead = self.store.lookup(|catalog| catalog.kept_instead(repository, url, sha256));
        instead.map_err(|error| error.to_string())
    }

    /// Records other bytes, with themselves as evidence.
    async fn diverged(
        self: &Arc<Self>,
        subject: &Subject,
        pinned: &Pinned,
        hashed: Hashed,
        from: String,
    ) -> Result<Seen, String> {
        let digests = *hashed.digests();
        let declared = pinned.pin.declared.iter().filter_map(|text| text.parse::<Checksum>().ok());
        let wrong = declared.filter(|checksum| !checksum.matches(&digests)).count() > 0;
        let (what, expected, detail) = match (pinned.own, wrong) {
            (None, true) => (
                DivergenceKind::Mismatch,
                pinned.pin.declared.clone(),
                "it does not give what the metadata declares".to_owned(),
            ),
            (own, _) => {
                let sha256 = own.map_or(pinned.pin.sha256, |own| own.sha256);
                let by = own.map_or(String::new(), |own| format!(" by ledger entry {}", own.entry));
                let expected = vec![format!("sha256={sha256}")];
                (DivergenceKind::Changed, expected, format!("pinned to other bytes{by}"))
            }
        };
        let observed = Observed { sha256: digests.sha256, size: digests.size };
        let evidence = self.evidence_of(hashed).await;
        let observation =
            Observation { what, from, observed: Some(observed), evidence, detail: detail.clone() };
        let packages = self.store.lookup(|catalog| {
            let (Subject { repository, url }, packages) = (subject, &pinned.pin.packages);
            catalog.users_at(repository, url, &digests, packages)
        });
        let packages = packages.map_err(|error| error.to_string())?;
        let pin = Pin { packages, ..pinned.pin.clone() };
        let divergence = self.record(subject, pinned.good_at, &pin, expected, observation).await?;
        let expected = pinned.own.map_or(pinned.pin.sha256, |own| own.sha256);
        let store = self.store.clone();
        let explained = tokio::task::spawn_blocking(move || {
            divergences::compare(store.blobs(), &expected, &observed.sha256)
        });
        let detail = match explained.await {
            Ok(Ok(Some(explanation))) => short(explanation.to_string()),
            // The bytes are too many to be kept, or can't be compared: they are other ones.
            _ => detail,
        };
        Ok(Seen { outcome: Outcome::Changed, detail, divergence: Some(divergence) })
    }

    /// Records an answer that has no end or leads where nobody may go.
    async fn refused(
        &self,
        subject: &Subject,
        pinned: &Pinned,
        observation: Observation,
    ) -> Result<Seen, String> {
        let (what, detail) = (observation.what, observation.detail.clone());
        let outcome = match what {
            DivergenceKind::TooLarge => Outcome::Changed,
            // Where a connection was cut twice is chance.
            DivergenceKind::Truncated => {
                return Ok(Seen { outcome: Outcome::Unreachable, detail, divergence: None });
            }
            _ => Outcome::Unreachable,
        };
        let expected = vec![format!("sha256={}", pinned.pin.sha256)];
        let divergence =
            self.record(subject, pinned.good_at, &pinned.pin, expected, observation).await?;
        Ok(Seen { outcome, detail, divergence: Some(divergence) })
    }
}

/// What an answer without bytes says of the archive; the error is why it says nothing yet.
fn outcome_of(kind: &FetchErrorKind, asker: Asker) -> Result<Outcome, String> {
    match kind {
        FetchErrorKind::Status(
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
        ) => Ok(Outcome::Gone),
        // The host, or we ourselves, asked for a pause.
        FetchErrorKind::Status(StatusCode::TOO_MANY_REQUESTS) | FetchErrorKind::Busy { .. } => {
            Err(kind.to_string())
        }
        // The host fails altogether. By the schedule that counts only if it still does much later;
        // at once, thousands of entries would say the same.
        FetchErrorKind::CircuitOpen { .. } if asker == Asker::Person => Err(kind.to_string()),
        _ => Ok(Outcome::Unreachable),
    }
}

/// Where bytes come from: what follows a question mark is often signed anew each time.
fn place(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

pub(super) fn failed(subject: &Subject, reason: impl Into<String>) -> CheckError {
    CheckError::Store { url: subject.url.clone(), reason: reason.into() }
}
