//! What is wrong with one state of a repository, whatever came before: sources that little vouches
//! for, files that can't be read, and declarations that contradict each other.

use super::checksum::{Checksum, Strength};
use super::edit::stops_clients;
use super::source::{ArchiveSource, archive_sources};
use super::syntax::OpamFile;
use super::{Package, Tree};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The version.
    pub package: Package,
    /// What is wrong.
    pub kind: FindingKind,
    /// Where, and how.
    pub detail: String,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The opam file can't be read, or opam would refuse its sources.
    Unreadable,
    /// No checksum vouches for an archive.
    NoChecksum,
    /// Only an md5 vouches for an archive.
    WeakChecksum,
    /// Another version declares another checksum of the same kind for the same URL.
    UrlDisagrees,
    /// Another version declares this checksum together with another one of a kind that both have.
    ChecksumDisagrees,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::NoChecksum => "no-checksum",
            Self::WeakChecksum => "weak-checksum",
            Self::UrlDisagrees => "url-disagrees",
            Self::ChecksumDisagrees => "checksum-disagrees",
        })
    }
}

/// Everything that is wrong with a repository, sorted by package.
pub fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut declared = Declared::default();
    for (package, _) in tree.versions() {
        let Some(opam) = tree.opam_file(package) else { continue };
        let mut find = |kind, detail: String| {
            findings.push(Finding { package: package.clone(), kind, detail });
        };
        let sources = OpamFile::parse_bytes(opam.clone())
            .map_err(|error| error.to_string())
            .and_then(|file| archive_sources(&file).map_err(|error| error.to_string()));
        let sources = match sources {
            Ok(sources) => sources,
            Err(problem) => {
                find(FindingKind::Unreadable, problem);
                continue;
            }
        };
        let url = tree.directory(package).and_then(|it| tree.file(&format!("{it}/url")));
        if stops_clients(opam, url.map(|url| &url[..])) {
            find(FindingKind::Unreadable, STOPS_CLIENTS.to_owned());
        }
        for source in &sources {
            let url = source.urls.first().map_or("", String::as_str);
            match (source.checksums.strength(), source.checksums.voided()) {
                (Strength::None, Some(why)) => {
                    find(FindingKind::NoChecksum, format!("{url}: {why}"));
                }
                (Strength::None, None) => find(FindingKind::NoChecksum, url.to_owned()),
                (Strength::Weak, _) => find(FindingKind::WeakChecksum, url.to_owned()),
                (Strength::Strong, _) => {}
            }
            declared.add(package, source);
        }
    }
    findings.extend(declared.disagreements());
    findings.sort_unstable();
    findings.dedup();
    findings
}

const STOPS_CLIENTS: &str = "some opam may read nothing of a repository that has it: it has no \
                             opam-version up to 2.0, or a file \"url\" that can't be read";

/// Who declares what.
#[derive(Default)]
struct Declared {
    by_url: BTreeMap<String, Vec<(Package, Vec<Checksum>)>>,
    by_checksum: BTreeMap<Checksum, Vec<(Package, Vec<Checksum>)>>,
}

impl Declared {
    fn add(&mut self, package: &Package, source: &ArchiveSource) {
        let checksums = source.checksums.as_slice();
        for url in &source.urls {
            let others = self.by_url.entry(url.clone()).or_default();
            others.push((package.clone(), checksums.to_vec()));
        }
        for checksum in checksums {
            let others = self.by_checksum.entry(*checksum).or_default();
            others.push((package.clone(), checksums.to_vec()));
        }
    }

    fn disagreements(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let by_url = self.by_url.into_iter().map(|(url, users)| (url, users, true));
        let by_checksum =
            self.by_checksum.into_iter().map(|(it, users)| (it.to_string(), users, false));
        for (subject, users, is_url) in by_url.chain(by_checksum) {
            if !disagree(&users) {
                continue;
            }
            let kind = match is_url {
                true => FindingKind::UrlDisagrees,
                false => FindingKind::ChecksumDisagrees,
            };
            for (package, checksums) in users {
                let said: Vec<String> = checksums.iter().map(Checksum::to_string).collect();
                let detail = format!("{subject}: {}", said.join(" "));
                findings.push(Finding { package, kind, detail });
            }
        }
        findings
    }
}

/// Whether there are two checksums of one kind among them.
fn disagree(users: &[(Package, Vec<Checksum>)]) -> bool {
    let all: BTreeSet<&Checksum> = users.iter().flat_map(|(_, checksums)| checksums).collect();
    let kinds: BTreeSet<_> = all.iter().map(|checksum| checksum.kind()).collect();
    kinds.len() < all.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opam::{TreeLimits, tree::world};

    fn tree(versions: &[(&str, &str)]) -> Tree {
        let files = versions.iter().map(|(package, opam)| {
            let name = package.split_once('.').unwrap().0;
            let path = format!("packages/{name}/{package}/opam").parse().unwrap();
            (path, opam.as_bytes().to_vec().into())
        });
        Tree::from_files(files, &TreeLimits::default()).unwrap()
    }

    fn url(url: &str, checksum: &str) -> String {
        let source = format!("src: \"https://a.example/{url}\" checksum: [{checksum}]");
        format!("opam-version: \"2.0\" url {{ {source} }}")
    }

    const MD5: &str = "\"md5=0123456789abcdef0123456789abcdef\"";
    const SHA256: &str =
        "\"sha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"";
    const OTHER: &str =
        "\"sha256=1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"";

    #[test]
    fn what_little_vouches_for_and_what_contradicts_itself_is_found() {
        let both = format!("{MD5} {SHA256}");
        let (weak, bare) = (url("w", MD5), url("b", ""));
        let (one, two) = (url("same", SHA256), url("same", OTHER));
        let (three, four) = (url("x", &both), url("y", &format!("{MD5} {OTHER}")));
        let tree = tree(&[
            ("bare.1", &bare),
            ("bad.1", "url {"),
            ("far.1", "opam-version: \"2.1\""),
            ("four.1", &four),
            ("one.1", &one),
            ("three.1", &three),
            ("two.1", &two),
            ("weak.1", &weak),
        ]);
        let found: Vec<_> = findings(&tree)
            .iter()
            .map(|finding| format!("{} {}", finding.package, finding.kind))
            .collect();
        assert_eq!(
            found,
            [
                "bad.1 unreadable",
                "bare.1 no-checksum",
                "far.1 unreadable",
                "four.1 checksum-disagrees",
                "one.1 url-disagrees",
                "three.1 checksum-disagrees",
                "two.1 url-disagrees",
                "weak.1 weak-checksum",
                "weak.1 checksum-disagrees",
            ]
        );
    }

    #[test]
    fn a_sound_repository_has_no_finding() {
        assert_eq!(findings(&tree(&[("a.1", &url("a", SHA256)), ("b.1", &url("a", SHA256))])), []);
    }

    #[test]
    fn a_real_repository_is_looked_over_in_seconds() {
        for (name, tree) in world::snapshots() {
            let found = findings(&tree);
            assert!(found.iter().any(|it| it.kind == FindingKind::WeakChecksum), "{name}");
            assert!(found.len() < 20_000, "{name}: {}", found.len());
        }
    }
}
