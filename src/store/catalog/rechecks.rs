//! Which URLs are to be fetched again, when that was done last, and what came of it.
//!
//! Outcomes that changed are in the ledger. When a URL was last fetched, and that it gave the same, is
//! known here alone: a catalog that is rebuilt begins the round anew.

use super::index::{Change, Index, IndexError, Table};
use super::{Catalog, number, number_at, put};
use crate::digest::Sha256;
use crate::ledger::entry::{Outcome, Pin, Recheck};
use std::collections::{BTreeMap, BinaryHeap};

/// A URL that is rechecked: one that was pinned, or one that metadata declares for an archive
/// whose bytes came from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The repository whose metadata declares it.
    pub repository: String,
    /// The URL, without credentials.
    pub url: String,
}

/// What is known of a subject's rechecks. Times are Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// The ledger index of the pin that says what has to come.
    pub pin: u64,
    /// When it was last fetched, or pinned.
    pub at: i64,
    /// When it first could not be reached since; 0 when it could.
    pub failed_at: i64,
    /// What came of it; `None` before its first recheck, or when only a catalog before this one
    /// knew.
    pub outcome: Option<Outcome>,
    /// How many entries the ledger had when it last gave what is pinned; 0 when it never did.
    pub good_at: u64,
}

impl Last {
    /// What had come of it before, where a first fetch counts as one that gave the same.
    pub fn outcome_before(&self) -> Outcome {
        self.outcome.unwrap_or(Outcome::Same)
    }
}

/// The round in which every subject's turn comes once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rechecks {
    /// Those whose turn it is, the longest due first; at most as many as were asked for.
    pub due: Vec<(Subject, Last)>,
    /// How many there are whose turn it is.
    pub all_due: u64,
    /// Since when the first of them is due, in Unix seconds.
    pub due_since: Option<i64>,
    /// How many subjects there are of each outcome; those without a recheck are of none.
    pub outcomes: BTreeMap<Outcome, u64>,
}

impl Catalog {
    /// Whose turn it is at `now`, when each subject has one turn in `every` seconds; at most
    /// `most` of them are named.
    ///
    /// Turns are spread by the subjects' names, so that what was pinned together is not asked for
    /// together. A subject that could not be reached has another turn after a thirtieth of that
    /// time. What seems to have been fetched in the future, because the clock went back since,
    /// counts from now on as fetched now.
    ///
    /// # Errors
    /// When the index fails.
    pub fn rechecks(&self, now: i64, every: i64, most: usize) -> Result<Rechecks, IndexError> {
        let index = self.index();
        let mut since = number_at(&*index, META_SINCE)?.cast_signed();
        if since == 0 || since > now {
            index.apply(vec![put(Table::Meta, META_SINCE, now.to_be_bytes().into())])?;
            since = now;
        }
        let mut found = Rechecks::default();
        let mut first = BinaryHeap::new();
        let mut from_the_future = Vec::new();
        index.visit(Table::Recheck, &[], &mut |key, value| {
            let Some(mut last) = last(value) else { return };
            if last.at > now || last.failed_at > now {
                (last.at, last.failed_at) = (last.at.min(now), last.failed_at.min(now));
                from_the_future.push(put(Table::Recheck, key, value_of(&last)));
            }
            if let Some(outcome) = last.outcome {
                *found.outcomes.entry(outcome).or_default() += 1;
            }
            let due_at = match last.failed_at {
                0 => turn_after(phase(key, every), last.at.max(since), every),
                failed_at => failed_at.saturating_add(every / SECOND_LOOK),
            };
            if due_at > now {
                return;
            }
            found.all_due += 1;
            found.due_since = Some(found.due_since.map_or(due_at, |first| first.min(due_at)));
            first.push((due_at, key.to_vec(), value.to_vec()));
            if first.len() > most {
                first.pop();
            }
        })?;
        if !from_the_future.is_empty() {
            index.apply(from_the_future)?;
        }
        let first = first.into_sorted_vec().into_iter();
        found.due = first.filter_map(|(_, key, value)| row(&key, &value)).collect();
        Ok(found)
    }

    /// Every subject that `wanted` picks.
    ///
    /// # Errors
    /// When the index fails.
    pub fn recheck_subjects(
        &self,
        wanted: impl Fn(&Subject, &Last) -> bool,
    ) -> Result<Vec<(Subject, Last)>, IndexError> {
        let mut found = Vec::new();
        self.index().visit(Table::Recheck, &[], &mut |key, value| {
            found.extend(row(key, value).filter(|(subject, last)| wanted(subject, last)));
        })?;
        Ok(found)
    }

    /// What is known of one subject.
    ///
    /// # Errors
    /// When the index fails.
    pub fn last_recheck(&self, subject: &Subject) -> Result<Option<Last>, IndexError> {
        Ok(self.get(Table::Recheck, &key_of(subject))?.and_then(|value| last(&value)))
    }

    /// The ledger index of the first pin to these bytes that names the subject, as the URL that
    /// gave them or as the one that declares them.
    ///
    /// # Errors
    /// When the index fails.
    pub fn pin_naming(
        &self,
        subject: &Subject,
        sha256: &Sha256,
    ) -> Result<Option<u64>, IndexError> {
        let value = self.get(Table::Recheck, &known_key(subject, sha256))?;
        Ok(value.and_then(|value| number(&value)))
    }

    /// Notes when a subject was fetched, and what came of it where the ledger has no entry of that;
    /// and how many entries that has, if it gave what is pinned.
    ///
    /// # Errors
    /// When the index fails.
    pub fn note_recheck(
        &self,
        subject: &Subject,
        at: i64,
        failed_at: i64,
        outcome: Option<Outcome>,
        good_at: Option<u64>,
    ) -> Result<(), IndexError> {
        let index = self.index();
        let key = key_of(subject);
        let Some(last) = index.get(Table::Recheck, &key)?.and_then(|value| last(&value)) else {
            return Ok(());
        };
        let good_at = good_at.unwrap_or(last.good_at);
        let last = Last { at, failed_at, outcome, good_at, ..last };
        index.apply(vec![put(Table::Recheck, &key, value_of(&last))])
    }
}

/// The subjects that a batch of entries adds or changes.
#[derive(Default)]
pub(super) struct Rows {
    rows: BTreeMap<Vec<u8>, Last>,
    known: BTreeMap<Vec<u8>, u64>,
}

impl Rows {
    pub(super) fn take_in(
        &mut self,
        index: &dyn Index,
        number: u64,
        pin: &Pin,
    ) -> Result<(), IndexError> {
        // What someone brought in a file can't be asked for again; the declared source can.
        let urls = std::iter::once(&pin.url).chain(&pin.src);
        for url in urls.filter(|url| !url.starts_with("file:")) {
            let subject = Subject { repository: pin.repository.clone(), url: url.clone() };
            self.known.entry(known_key(&subject, &pin.sha256)).or_insert(number);
            let key = key_of(&subject);
            if self.row(index, &key)?.is_none() {
                let at = pin.at.as_second();
                let gave_it = *url == pin.url;
                let good_at = if gave_it { number + 1 } else { 0 };
                let last = Last { pin: number, at, failed_at: 0, outcome: None, good_at };
                self.rows.insert(key, last);
            }
        }
        Ok(())
    }

    pub(super) fn note(
        &mut self,
        index: &dyn Index,
        number: u64,
        recheck: &Recheck,
    ) -> Result<(), IndexError> {
        let Recheck { repository, url, outcome, at, .. } = recheck;
        let key = key_of(&Subject { repository: repository.clone(), url: url.clone() });
        if let Some(last) = self.row(index, &key)? {
            let at = at.as_second();
            let good_at = if outcome.is_good() { number + 1 } else { last.good_at };
            let outcome = Some(*outcome);
            self.rows.insert(key, Last { at, failed_at: 0, outcome, good_at, ..last });
        }
        Ok(())
    }

    pub(super) fn into_changes(self) -> impl Iterator<Item = Change> {
        let rows = self.rows.into_iter().map(|(key, last)| (key, value_of(&last)));
        let known = self.known.into_iter().map(|(key, number)| (key, number.to_be_bytes().into()));
        rows.chain(known).map(|(key, value)| Change::Put(Table::Recheck, key, value))
    }

    fn row(&self, index: &dyn Index, key: &[u8]) -> Result<Option<Last>, IndexError> {
        match self.rows.get(key) {
            Some(last) => Ok(Some(*last)),
            None => Ok(index.get(Table::Recheck, key)?.and_then(|value| last(&value))),
        }
    }
}

/// The first turn after `last`: turns come at `phase` and then every so often.
fn turn_after(phase: i64, last: i64, every: i64) -> i64 {
    last.saturating_add(every - (last - phase).rem_euclid(every))
}

/// Where in the round a subject's turn comes, in seconds.
fn phase(key: &[u8], every: i64) -> i64 {
    let digest = Sha256::of(key);
    let (first, _) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 4], &[]));
    i64::from(u32::from_be_bytes(*first)).rem_euclid(every)
}

/// No name of a repository has a NUL.
fn key_of(subject: &Subject) -> Vec<u8> {
    [subject.repository.as_bytes(), &[0], subject.url.as_bytes()].concat()
}

/// No URL has a line break, so this is no subject's key.
fn known_key(subject: &Subject, sha256: &Sha256) -> Vec<u8> {
    [&key_of(subject)[..], b"\n", sha256.as_bytes()].concat()
}

fn row(key: &[u8], value: &[u8]) -> Option<(Subject, Last)> {
    let last = last(value)?;
    let (repository, url) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    Some((Subject { repository: repository.to_owned(), url: url.to_owned() }, last))
}

fn value_of(last: &Last) -> Vec<u8> {
    let Last { pin, at, failed_at, outcome, good_at } = last;
    let (good_at, outcome) = (good_at.to_be_bytes(), outcome.map_or(NO_OUTCOME, |it| it as u8));
    [&pin.to_be_bytes(), &at.to_be_bytes(), &failed_at.to_be_bytes(), &good_at, &[outcome][..]]
        .concat()
}

/// `None` for values that are no row: those under [`known_key`] are shorter.
fn last(value: &[u8]) -> Option<Last> {
    let (pin, rest) = value.split_first_chunk()?;
    let (at, rest) = rest.split_first_chunk()?;
    let (failed_at, rest) = rest.split_first_chunk()?;
    let (good_at, rest) = rest.split_first_chunk()?;
    let outcome = match rest {
        [NO_OUTCOME] => None,
        rest => Some(Outcome::ALL.into_iter().find(|outcome| [*outcome as u8] == rest)?),
    };
    Some(Last {
        pin: u64::from_be_bytes(*pin),
        at: i64::from_be_bytes(*at),
        failed_at: i64::from_be_bytes(*failed_at),
        outcome,
        good_at: u64::from_be_bytes(*good_at),
    })
}

/// A subject that could not be reached is looked at again after this part of a round.
const SECOND_LOOK: i64 = 30;
/// Stands in a row for what came of a subject that was not rechecked yet.
const NO_OUTCOME: u8 = u8::MAX;
const META_SINCE: &[u8] = b"rechecks-since";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::Entry;

    #[test]
    fn every_subject_has_one_turn_a_round() {
        let every = 2_592_000;
        for name in ["a", "b", "https://host.example/c"] {
            let phase = phase(name.as_bytes(), every);
            assert!((0..every).contains(&phase));
            let first = turn_after(phase, 1_800_000_000, every);
            assert!(first > 1_800_000_000 && first <= 1_800_000_000 + every);
            assert_eq!(turn_after(phase, first, every), first + every);
            assert_eq!(turn_after(phase, first - 1, every), first);
            assert_eq!(turn_after(phase, first + every / 2, every), first + every);
        }
    }

    #[tokio::test]
    async fn turns_go_on_when_the_clock_went_back() {
        let directory = tempfile::tempdir().unwrap();
        let layout = crate::store::layout::Layout::new(directory.path());
        let clock = crate::clock::Clock::system();
        let store = crate::store::Store::open(layout, 0, &clock).await.unwrap();
        let pinned = crate::store::tests::pin("https://host.example/a", b"a");
        store.append(pinned).await.unwrap();
        let subject =
            Subject { repository: "default".to_owned(), url: "https://host.example/a".to_owned() };
        let now = clock.now().as_second();
        let (every, ahead) = (100, now + 1_000_000);
        let due = |now| store.lookup(|catalog| catalog.rechecks(now, every, 1)).unwrap().all_due;
        for failed_at in [0, ahead] {
            let noted =
                |catalog: &Catalog| catalog.note_recheck(&subject, ahead, failed_at, None, None);
            store.lookup(noted).unwrap();
            assert_eq!(due(now), 0, "it counts as fetched now");
            assert_eq!(due(now + every), 1, "and its turn comes within a round");
        }
    }

    #[tokio::test]
    async fn a_url_is_good_as_of_the_entry_or_look_in_which_it_gave_what_is_pinned() {
        use Outcome::{Changed, Gone, Moved, Same, Unreachable};
        let directory = tempfile::tempdir().unwrap();
        let layout = crate::store::layout::Layout::new(directory.path());
        let clock = crate::clock::Clock::system();
        let store = crate::store::Store::open(layout, 0, &clock).await.unwrap();
        let [url, src] = ["a", "b"].map(|name| format!("https://host.example/{name}"));
        let Entry::Pin(pin) = crate::store::tests::pin(&url, b"a") else { panic!("no pin") };
        let pin = Pin { src: Some(src.clone()), ..pin };
        store.append(Entry::Pin(pin.clone())).await.unwrap();
        let subject = |url: &String| Subject { repository: "default".to_owned(), url: url.clone() };
        let good_at = |url: &String| {
            let last = store.lookup(|catalog| catalog.last_recheck(&subject(url)));
            last.unwrap().unwrap().good_at
        };
        let size = || store.log().size().unwrap();
        assert_eq!((good_at(&url), good_at(&src)), (size(), 0), "the declared one never gave it");
        for outcome in [Changed, Same, Gone, Moved, Unreachable, Same] {
            let before = good_at(&url);
            let recheck = Recheck {
                at: clock.now(),
                repository: "default".to_owned(),
                packages: pin.packages.clone(),
                url: url.clone(),
                sha256: pin.sha256,
                outcome,
                before: Same,
                divergence: None,
                detail: String::new(),
            };
            store.append(Entry::Recheck(recheck)).await.unwrap();
            let expected = if outcome.is_good() { size() } else { before };
            assert_eq!(good_at(&url), expected, "{outcome}");
        }
        let before = good_at(&url);
        for (came, expected) in [(None, before), (Some(before + 5), before + 5)] {
            let noted =
                |catalog: &Catalog| catalog.note_recheck(&subject(&url), 1, 0, Some(Same), came);
            store.lookup(noted).unwrap();
            assert_eq!(good_at(&url), expected);
        }
    }

    #[test]
    fn rows_read_back_and_other_values_are_none() {
        for outcome in [None].into_iter().chain(Outcome::ALL.map(Some)) {
            let last_one = Last { pin: 7, at: 1, failed_at: 2, outcome, good_at: 3 };
            assert_eq!(last(&value_of(&last_one)), Some(last_one));
        }
        assert_eq!(last(&7u64.to_be_bytes()), None);
        assert_eq!(last(&[]), None);
    }
}
