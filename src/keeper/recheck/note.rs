//! What a recheck writes to the ledger: pins, divergences, and outcomes that are other ones than
//! before.

use super::super::Keeper;
use super::super::attempt::Observation;
use super::super::pinning::short;
use super::check::{Asker, CheckError, Checked, Seen, failed};
use crate::ledger::entry::{Divergence, Entry, Outcome, Pin, Recheck};
use crate::store::catalog::{Catalog, IndexError, Subject};
use crate::store::{Accepted, Appended};

impl Keeper {
    /// What pins a declared URL to the bytes that another one gave before, now that it gave them too.
    pub(super) async fn pin_also(
        &self,
        subject: &Subject,
        declared: u64,
        from: &str,
    ) -> Result<Pin, String> {
        Ok(Pin {
            at: self.clock.now(),
            url: subject.url.clone(),
            src: None,
            from: from.to_owned(),
            agreed: Vec::new(),
            import: None,
            ..self.pin_at(declared).await?
        })
    }

    /// Says where the pin is; where only something weak vouches for it, the first one stands.
    pub(super) async fn append_pin(
        &self,
        pin: Pin,
        accepted: Accepted,
    ) -> Result<Option<u64>, String> {
        let pinned = self.store.pin(pin, accepted).await.map_err(|error| error.to_string())?;
        Ok(match pinned.appended {
            Appended::New(entry) | Appended::Known(entry) => Some(entry),
            Appended::PinnedOtherwise(_) => None,
        })
    }

    /// Writes a divergence unless it is known, and says where it is. One that somebody decided about
    /// is told anew where upstream gave what is pinned since, when the ledger had `good_at` entries.
    pub(super) async fn record(
        &self,
        subject: &Subject,
        good_at: u64,
        pin: &Pin,
        expected: Vec<String>,
        observation: Observation,
    ) -> Result<u64, String> {
        let mut divergence = Divergence {
            at: self.clock.now(),
            repository: subject.repository.clone(),
            packages: pin.packages.clone(),
            url: subject.url.clone(),
            src: pin.src.clone().filter(|src| *src != subject.url),
            from: short(observation.from),
            what: observation.what,
            expected,
            edits: Vec::new(),
            held: false,
            again: None,
            observed: observation.observed,
            evidence: None,
            detail: short(observation.detail),
        };
        let mut newest = None;
        while let Some(known) = self.known(&divergence)? {
            newest = Some(known);
            divergence.again = Some(known.0);
        }
        if let Some((newest, is_decided)) = newest
            && !(is_decided && newest < good_at)
        {
            return Ok(newest);
        }
        if let Some(evidence) = observation.evidence {
            divergence.evidence = self.keep_evidence(evidence).await;
        }
        let (what, url) = (divergence.what, divergence.url.clone());
        let appended = self.store.append(Entry::Divergence(divergence)).await;
        match appended.map_err(|error| error.to_string())? {
            Appended::New(entry) => {
                tracing::error!(%what, url, entry, "upstream diverged");
                Ok(entry)
            }
            Appended::Known(entry) => Ok(entry),
            Appended::PinnedOtherwise(kept) => Ok(kept.entry),
        }
    }

    /// Where a divergence is in the ledger, and whether somebody decided about it.
    fn known(&self, divergence: &Divergence) -> Result<Option<(u64, bool)>, String> {
        let known = self.store.lookup(|catalog| {
            let Some(known) = catalog.divergence(divergence)? else { return Ok(None) };
            Ok(Some((known, catalog.decided(known)?.is_some())))
        });
        known.map_err(|error: IndexError| error.to_string())
    }

    /// Writes an outcome to the ledger where it is another one than before.
    pub(super) async fn note(
        &self,
        subject: Subject,
        pin: &Pin,
        seen: Seen,
        asker: Asker,
    ) -> Result<Checked, CheckError> {
        let broken = |error: &dyn std::fmt::Display| failed(&subject, error.to_string());
        let last = self.store.lookup(|catalog| catalog.last_recheck(&subject));
        let Some(last) = last.map_err(|error| broken(&error))? else {
            return Err(failed(&subject, "the catalog no longer knows it"));
        };
        let Seen { outcome, detail, divergence } = seen;
        let at = self.clock.now();
        let before = last.outcome_before();
        let is_new = outcome != before;
        let waits = outcome == Outcome::Unreachable && asker == Asker::Schedule;
        if is_new && !(waits && last.failed_at == 0) {
            let recheck = Recheck {
                at,
                repository: subject.repository.clone(),
                packages: pin.packages.clone(),
                url: subject.url.clone(),
                sha256: pin.sha256,
                outcome,
                before,
                divergence,
                detail: short(detail.clone()),
            };
            let url = &subject.url;
            match outcome.is_good() {
                true => tracing::info!(%outcome, %before, url, detail, "rechecked"),
                false => tracing::warn!(%outcome, %before, url, detail, "rechecked"),
            }
            let appended = self.store.append(Entry::Recheck(recheck)).await;
            appended.map_err(|error| broken(&error))?;
        } else {
            // What fails for the first time keeps its turn, and has another one soon.
            let (at, failed_at, outcome) = match is_new {
                true => (last.at, at.as_second(), last.outcome),
                false => (at.as_second(), 0, Some(outcome)),
            };
            let size = self.store.log().size().map_err(|error| broken(&error))?;
            let good_at = (!is_new && before.is_good()).then_some(size);
            let noted =
                |catalog: &Catalog| catalog.note_recheck(&subject, at, failed_at, outcome, good_at);
            let noted = self.store.lookup(noted);
            noted.map_err(|error| broken(&error))?;
        }
        let Subject { repository, url } = subject;
        let packages = pin.packages.clone();
        Ok(Checked { url, repository, packages, outcome, before, detail, divergence })
    }
}
