//! Alerts in words: what each says to a person and to a program.

use super::Condition;
use crate::archive::is_deceptive;
use crate::config;
use crate::digest::Sha256;
use crate::ledger::entry::{Divergence, DivergenceKind, Entry, Outcome, Recheck};
use crate::ledger::note::Verifier;
use crate::opam::EditKind;
use crate::sink::Alert;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Says everything in the name of one mirror; cheap to clone.
#[derive(Clone, Debug)]
pub struct Words {
    /// The ledger's public key, of which every id is made.
    ledger: String,
    name: String,
    mirror: Option<String>,
    /// The machine that this runs on: of several mirrors, ledgers are told apart by it at a glance.
    machine: String,
}

impl Words {
    /// The words of the mirror with this ledger.
    pub fn new(verifier: &Verifier, server: &config::Server) -> Self {
        let mut words = Self::without_ledger(server);
        (words.ledger, words.name) = (verifier.to_string(), verifier.name().to_owned());
        words
    }

    /// The words of a mirror that has no ledger yet.
    pub fn without_ledger(server: &config::Server) -> Self {
        let mirror = server.public_url.as_ref().map(ToString::to_string);
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { ledger: String::new(), name: "no ledger yet".to_owned(), mirror, machine }
    }

    /// What is told of a ledger entry, if anything is; `explanation` says why the bytes of a
    /// divergence are not the expected ones.
    pub(super) fn of_entry(
        &self,
        index: u64,
        entry: &Entry,
        explanation: Option<&str>,
    ) -> Option<Alert> {
        match entry {
            Entry::Divergence(divergence) => {
                Some(self.of_divergence(index, divergence, explanation))
            }
            // What has a divergence is told as that, and what was lost before is no news.
            Entry::Recheck(recheck) => {
                let is_news = recheck.before.is_good() && !recheck.outcome.is_good();
                let is_told = recheck.divergence.is_some();
                (is_news && !is_told).then(|| self.of_recheck(index, recheck))
            }
            Entry::Key(_)
            | Entry::Pin(_)
            | Entry::History(_)
            | Entry::Import(_)
            | Entry::Snapshot(_)
            | Entry::Decision(_)
            | Entry::Other(_) => None,
        }
    }

    fn of_recheck(&self, index: u64, recheck: &Recheck) -> Alert {
        let Recheck { repository, url, sha256, outcome, detail, .. } = recheck;
        let packages = some(&recheck.packages);
        let detail = short(detail);
        let meaning = match outcome {
            Outcome::Gone => "An upstream has a pinned archive no more",
            _ => "An upstream does not give a pinned archive any more",
        };
        let lines = vec![
            format!("{meaning}; what is kept is served on.\n"),
            format!("{:<12} {packages} of repository {repository}", "packages"),
            format!("{:<12} {url}", "asked"),
            format!("{:<12} sha256={sha256}", "pinned"),
            format!("{:<12} {detail}", "in words"),
            format!("{:<12} {}", "seen", recheck.at),
        ];
        let data = json!({
            "entry": index,
            "outcome": outcome,
            "before": recheck.before,
            "repository": repository,
            "packages": recheck.packages.iter().take(MAX_PACKAGES).collect::<Vec<_>>(),
            "url": url,
            "sha256": sha256,
            "detail": detail,
        });
        let about = if packages.is_empty() { url } else { &packages };
        let title = format!("{outcome}: the archive of {about}");
        let look = match recheck.packages.first() {
            Some(package) => format!("opam-keep recheck {package}"),
            None => "opam-keep status".to_owned(),
        };
        let kind = format!("recheck.{outcome}");
        self.alert(&format!("entry {index}"), kind, recheck.at, title, lines, &look, data)
    }

    fn of_divergence(
        &self,
        index: u64,
        divergence: &Divergence,
        explanation: Option<&str>,
    ) -> Alert {
        let Divergence { repository, url, what, detail, .. } = divergence;
        let packages = some(&divergence.packages);
        let about = if packages.is_empty() { repository.clone() } else { packages.clone() };
        let look = format!("opam-keep divergences show {index}");
        let served = match (what.is_of_metadata(), divergence.held) {
            (true, true) => "\nIt is held: not served as upstream has it until someone accepts it.",
            (true, false) => "\nThe policy only warns of it: nobody has to accept it.",
            (false, _) => "",
        };
        let mut lines = vec![format!("{}.{served}\n", meaning(*what, &divergence.edits))];
        let mut line = |name: &str, text: &str| lines.push(format!("{name:<12} {text}"));
        match packages.is_empty() {
            true => line("repository", repository),
            false => line("packages", &format!("{packages} of repository {repository}")),
        }
        line("asked", url);
        if let Some(src) = &divergence.src {
            line("declared as", src);
        }
        if divergence.from != *url {
            line("answered by", &divergence.from);
        }
        if !what.is_of_metadata() {
            divergence.expected.iter().for_each(|expected| line("expected", expected));
            if let Some(observed) = &divergence.observed {
                line("observed", &format!("sha256={}, {} bytes", observed.sha256, observed.size));
            }
        }
        let detail = short(detail);
        line("in words", &detail.trim_end().replace('\n', INDENTED));
        let explanation = explanation.map(short);
        explanation.iter().for_each(|explanation| line("explanation", explanation));
        line("seen", &divergence.at.to_string());
        let data = json!({
            "divergence": index,
            "what": what,
            "repository": repository,
            "packages": divergence.packages.iter().take(MAX_PACKAGES).collect::<Vec<_>>(),
            "url": url,
            "src": divergence.src,
            "from": divergence.from,
            "expected": divergence.expected,
            "edits": divergence.edits,
            "held": divergence.held,
            "observed": divergence.observed,
            "detail": detail,
            "explanation": explanation,
        });
        let kind = format!("divergence.{}", what.to_string().replace('-', "_"));
        let title = match (divergence.edits.is_empty(), divergence.held) {
            (false, true) => {
                format!("held: {} of {about} (divergence {index})", some(&divergence.edits))
            }
            (false, false) => {
                format!("edited: {} of {about} (divergence {index})", some(&divergence.edits))
            }
            (true, true) => format!("held: {what} repository {about} (divergence {index})"),
            (true, false) => format!("{what}: {about} (divergence {index})"),
        };
        self.alert(&format!("entry {index}"), kind, divergence.at, title, lines, &look, data)
    }

    /// What is told when a condition begins.
    pub(super) fn raised(&self, condition: &Condition, at: Timestamp) -> Alert {
        let (kind, title, line, look, data) = match condition {
            Condition::StaleIndex { repository, since, problem } => {
                let problem = problem.as_deref().map(short);
                let why = problem.as_ref().map_or(String::new(), |why| format!("\nAt last: {why}"));
                (
                    "index.stale",
                    format!("the upstream of {repository} gives no good index since {since}"),
                    format!(
                        "The upstream of repository {repository} has given no good index since \
                         {since}.\nThe last good one is served on.{why}"
                    ),
                    "opam-keep status".to_owned(),
                    json!({ "repository": repository, "since": since, "problem": problem }),
                )
            }
            Condition::DamagedBlob { sha256, problem } => (
                "blob.damaged",
                format!("a kept file is damaged: {sha256}"),
                format!(
                    "A file in the store does not hold what its name says, and is not served: \
                     {problem}.\nopam-keep repair fetches the right bytes again, from upstream or with \
                     --from from a backup or another mirror."
                ),
                "opam-keep verify".to_owned(),
                json!({ "sha256": sha256, "problem": problem }),
            ),
            Condition::RecheckBehind { since } => (
                "recheck.behind",
                "rechecks can't keep up".to_owned(),
                "Fetching every pinned URL again takes longer than recheck.every.\nRaise \
                 recheck.bandwidth, or recheck.every."
                    .to_owned(),
                "opam-keep status".to_owned(),
                json!({ "since": since }),
            ),
            Condition::UnwritableStore { problem } => (
                "store.unwritable",
                "nothing new can be kept".to_owned(),
                format!(
                    "The store keeps nothing new: {}.\nWhat is kept is served on; what is not is \
                     404, and no upstream is followed. Make room, or make it\nwritable: nothing \
                     has to be started again.",
                    short(problem)
                ),
                "opam-keep health --ready".to_owned(),
                json!({ "problem": short(problem) }),
            ),
        };
        // Not of the time: what a crash kept from being noted down has another one then.
        let subject = format!("{} {at}", condition.key());
        self.alert(&subject, kind.to_owned(), at, title, vec![line], &look, data)
    }

    /// What is told when a condition is over.
    pub(super) fn over(&self, began: &Alert, at: Timestamp) -> Alert {
        let kind = match began.kind.as_str() {
            "index.stale" => "index.fresh",
            "blob.damaged" => "blob.healed",
            "recheck.behind" => "recheck.caught_up",
            "store.unwritable" => "store.writable",
            _ => "condition.over",
        };
        let title = format!("over since {at}: {}", began.title);
        let text = format!("This is over since {at}. It was told as:\n\n{}", began.text);
        let id = format!("{}{OVER}", began.id);
        Alert { id, kind: kind.to_owned(), at, title, text, data: began.data.clone() }
    }

    /// What is told when someone tries whether alerts arrive.
    pub fn test(&self, at: Timestamp) -> Alert {
        let line = "This is a test: whoever reads it is told when upstream changes.".to_owned();
        let title = "a test of alerts".to_owned();
        let subject = format!("test {}", at.as_nanosecond());
        let data = json!({});
        self.alert(&subject, "test".to_owned(), at, title, vec![line], "opam-keep status", data)
    }

    #[expect(clippy::too_many_arguments, reason = "each is one part of the one thing it makes")]
    fn alert(
        &self,
        subject: &str,
        kind: String,
        at: Timestamp,
        title: String,
        mut lines: Vec<String>,
        look: &str,
        mut data: Value,
    ) -> Alert {
        let hash = Sha256::of(format!("{}\n{subject}", self.ledger).as_bytes()).to_string();
        let title = title.chars().filter(|c| !is_deceptive(*c)).collect();
        lines.iter_mut().for_each(|line| line.retain(|c| is_harmless(&c)));
        let mut text = format!("{}\n\nlook at it   {look}\n", lines.join("\n"));
        if let Some(mirror) = &self.mirror {
            text.push_str(&format!("mirror       {mirror}\n"));
        }
        text.push_str(&format!("machine      {}\nledger       {}\n", self.machine, self.name));
        if let Value::Object(data) = &mut data {
            data.insert("look".to_owned(), look.into());
            data.insert("mirror".to_owned(), self.mirror.clone().into());
            data.insert("machine".to_owned(), self.machine.clone().into());
            data.insert("ledger".to_owned(), self.name.clone().into());
        }
        Alert { id: format!("alert_{}", &hash[..32]), kind, at, title, text, data }
    }
}

fn meaning(what: DivergenceKind, edits: &[String]) -> &'static str {
    let is_new = edits.iter().any(|edit| *edit == EditKind::VersionAdded.to_string());
    match what {
        DivergenceKind::Mismatch => "An upstream gives bytes that do not match what is declared",
        DivergenceKind::Changed => "An upstream gives other bytes than the pinned ones",
        DivergenceKind::Truncated => "An upstream's bytes end early",
        DivergenceKind::TooLarge => "An upstream gives more bytes than an archive may have",
        DivergenceKind::ForbiddenRedirect => "An upstream redirects to where nobody may go",
        DivergenceKind::Disagreement => "Two sources of an archive give different bytes",
        DivergenceKind::Edited if is_new => "A version came that the policy tells of",
        DivergenceKind::Edited => "The metadata of a published version was edited",
        DivergenceKind::RolledBack => "A repository went back to an earlier state",
        DivergenceKind::Gutted => "A repository lost many versions at once",
    }
}

/// The first of many names.
fn some(packages: &[String]) -> String {
    let named = packages.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(" ");
    match packages.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Text from outside, harmless and not too long to be read.
fn short(text: &str) -> String {
    let mut short: String = text.chars().filter(is_harmless).take(MAX_DETAIL).collect();
    if short.len() < text.len() && text.chars().count() > MAX_DETAIL {
        short.push_str("\n…");
    }
    short
}

/// Whether people see a character as what it is: not those that move a cursor, but for line ends,
/// nor those that reorder or hide others.
fn is_harmless(character: &char) -> bool {
    *character == '\n' || !is_deceptive(*character)
}

/// A line end and the way to where values begin.
const INDENTED: &str = "\n             ";
/// What the id of an alert that something is over ends with, after that of its beginning.
pub(super) const OVER: &str = "_over";
const MAX_DETAIL: usize = 4_000;
const MAX_NAMED: usize = 8;
const MAX_PACKAGES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn nothing_that_others_write_moves_a_cursor_or_hides_what_follows() {
        let words = Words::without_ledger(&Config::default().server);
        let evil = "a\u{1b}[2J\u{9b}\u{202e}\rb";
        let (title, lines) = (format!("{evil}\nc"), vec![format!("asked {evil}\nc")]);
        let at = Timestamp::UNIX_EPOCH;
        let alert = words.alert("", "test".to_owned(), at, title, lines, "", json!({}));
        assert_eq!(alert.title, "a[2Jbc");
        assert!(alert.text.starts_with("asked a[2Jb\nc\n"), "{:?}", alert.text);
        assert_eq!(short(evil), "a[2Jb");
    }
}
