//! A source as an opam file declares it, and what became of it.

use super::EditKind;
use super::canonical::{canonical, list};
use super::fact::{Fact, Facts, refused};
use super::shape::Shape;
use crate::opam::source::section_checksums;
use crate::opam::syntax::{Field, Item, Section, ValueKind};
use crate::opam::{Checksum, ChecksumKind, DeclaredChecksums};
use std::collections::BTreeSet;

/// One source: the package's own or an extra one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Where it comes from, in quotes: the URL that opam takes first, then any more of them, which
    /// opam refuses.
    srcs: Vec<String>,
    /// Where else it may come from, in quotes and in order.
    mirrors: Vec<String>,
    /// What it must be; their order says nothing about that.
    checksums: BTreeSet<Checksum>,
    /// The part of it that is built.
    subpath: Option<String>,
}

/// What became of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Other bytes, or nothing says that they are not.
    Rewritten,
    /// Other places, held by a checksum.
    Moved,
    /// New checksums beside all the old ones.
    ChecksumAdded,
    /// No checksum any more of a kind that there was.
    ChecksumRemoved,
}

impl Source {
    /// Reads a `url` or `extra-source` section named `label`; what opam would refuse and what
    /// this program doesn't know goes to `facts`.
    pub(super) fn read(label: &str, section: &Section, facts: &mut Facts) -> Self {
        let mut source = Self::default();
        for spelling in SPELLINGS {
            for field in section.fields(spelling.field) {
                source.add_src(label, field, spelling, facts);
            }
        }
        match source.srcs.len() {
            0 => facts.problem(format!("{label}: there is no 'src'")),
            1 => {}
            _ => facts.problem(format!("{label}: 'src' is there several times")),
        }
        for field in section.fields("mirrors") {
            source.add_mirrors(label, field, facts);
        }
        if section.fields("mirrors").nth(1).is_some() {
            facts.several(EditKind::Build, &format!("{label}.mirrors"));
        }
        source.read_rest(label, section, facts);
        source
    }

    fn add_src(&mut self, label: &str, field: &Field, spelling: &Spelling, facts: &mut Facts) {
        let url = canonical(&field.value);
        self.srcs.push(match field.value.kind {
            ValueKind::String(_) => spelling.full(&url),
            _ => {
                facts.problem(format!("{label}.{}: it should be a string", field.name));
                url
            }
        });
    }

    fn add_mirrors(&mut self, label: &str, field: &Field, facts: &mut Facts) {
        self.mirrors.extend(Shape::Texts.elements(&field.value).unwrap_or_else(|| {
            facts.problem(format!("{label}.mirrors: it should be a list of strings"));
            vec![canonical(&field.value)]
        }));
    }

    /// Checksums, `subpath`, and what is known in no such section.
    fn read_rest(&mut self, label: &str, section: &Section, facts: &mut Facts) {
        let declared = section_checksums(section)
            .unwrap_or_else(|error| DeclaredChecksums::void(error.to_string()));
        self.checksums.extend(declared.as_slice());
        if let Some(reason) = declared.voided() {
            facts.problem(format!("{label}.checksum: {reason}"));
            for field in section.fields("checksum") {
                facts.say(EditKind::Build, &format!("{label}.checksum"), refused(&field.value));
            }
        }
        for item in &section.items {
            match item {
                Item::Field(field) if KNOWN.iter().any(|name| field.name == **name) => {}
                Item::Field(field) if field.name == *"subpath" => {
                    self.subpath.get_or_insert_default().push_str(&canonical(&field.value));
                }
                item => facts.unknown(&format!("{label}."), item),
            }
        }
    }

    /// What became of the source; nothing if it is the same.
    pub(super) fn differences(&self, after: &Self) -> Vec<Difference> {
        let (old, new) = (&self.checksums, &after.checksums);
        let of_kind = |checksums: &BTreeSet<Checksum>, kind| -> BTreeSet<Checksum> {
            checksums.iter().filter(|checksum| checksum.kind() == kind).copied().collect()
        };
        let (mut contradicted, mut removed) = (false, false);
        for kind in ChecksumKind::ALL {
            let (old, new) = (of_kind(old, kind), of_kind(new, kind));
            removed |= !old.is_empty() && new.is_empty();
            contradicted |= !old.is_empty() && !new.is_empty() && old != new;
        }
        let swapped = !old.is_empty() && !new.is_empty() && old.is_disjoint(new);
        let held = !contradicted && !old.is_disjoint(new);
        let rewritten = contradicted
            || swapped
            || self.subpath != after.subpath
            || (!held && !self.urls().eq(after.urls()))
            || after.comes_from_elsewhere(self, held);
        let mut differences = Vec::new();
        let mut note = |holds: bool, difference| differences.extend(holds.then_some(difference));
        note(rewritten, Difference::Rewritten);
        note(!rewritten && !self.urls().eq(after.urls()), Difference::Moved);
        note(
            !rewritten && new.len() > old.len() && new.is_superset(old),
            Difference::ChecksumAdded,
        );
        note(removed, Difference::ChecksumRemoved);
        differences
    }

    /// Whether it may come, unheld by a checksum, from where it didn't come from before, or is
    /// looked for there first now.
    fn comes_from_elsewhere(&self, before: &Self, held: bool) -> bool {
        let is_free = |url: &String| !held || !is_held_by_checksums(url);
        let known: BTreeSet<&String> = before.urls().collect();
        let (first, first_before) = (self.srcs.first(), before.srcs.first());
        (first != first_before && first.is_none_or(is_free))
            || self.urls().any(|url| is_free(url) && !known.contains(url))
    }

    fn urls(&self) -> impl Iterator<Item = &String> {
        self.srcs.iter().chain(&self.mirrors)
    }

    /// What the source says, as lines with its label.
    pub(super) fn said(&self, label: &str) -> Vec<(String, String)> {
        let lines = self.lines(label).into_iter();
        lines.filter_map(|(label, text)| Some((label, text?))).collect()
    }

    /// As [`Self::said`], with a place for every line; a line that is empty isn't there.
    fn lines(&self, label: &str) -> [(String, Option<String>); 4] {
        let checksums: Vec<String> = self.checksums.iter().map(Checksum::to_string).collect();
        let all = |texts: &[String]| (!texts.is_empty()).then(|| list(texts));
        let srcs = match self.srcs.as_slice() {
            [only] => Some(only.clone()),
            several => all(several),
        };
        [
            (format!("{label}.src"), srcs),
            (format!("{label}.mirrors"), all(&self.mirrors)),
            (format!("{label}.checksum"), all(&checksums)),
            (format!("{label}.subpath"), self.subpath.clone()),
        ]
    }
}

/// The facts that tell what became of a source, each under its kind; `rewritten` is the kind of
/// a source that is no longer the same.
pub(super) fn compare(
    label: &str,
    before: Option<&Source>,
    after: Option<&Source>,
    rewritten: EditKind,
) -> Vec<(EditKind, Fact)> {
    let differences = match (before, after) {
        (None, None) => Vec::new(),
        (Some(before), Some(after)) => before.differences(after),
        _ => vec![Difference::Rewritten],
    };
    let none = Source::default();
    let before_lines = before.unwrap_or(&none).lines(label);
    let after_lines = after.unwrap_or(&none).lines(label);
    let facts: Vec<Fact> = before_lines
        .into_iter()
        .zip(after_lines)
        .map(|((label, before), (_, after))| Fact { label, before, after })
        .collect();
    let mut told = Vec::new();
    for difference in differences {
        let (kind, lines) = match difference {
            Difference::Rewritten => (rewritten, &facts[..]),
            Difference::Moved => (EditKind::SourceMoved, &facts[..2]),
            Difference::ChecksumAdded => (EditKind::ChecksumAdded, &facts[2..3]),
            Difference::ChecksumRemoved => (EditKind::ChecksumRemoved, &facts[2..3]),
        };
        // A source that is no longer the same is told whole; else just what differs.
        let whole = difference == Difference::Rewritten;
        let lines = lines.iter().filter(|fact| whole || fact.before != fact.after);
        told.extend(lines.cloned().map(|fact| (kind, fact)));
    }
    told
}

/// Whether opam holds the checksums against what it gets from a URL in quotes. It has none for
/// version control and local directories, and goes by the name of a directory of Software
/// Heritage itself (`opamSWHID.ml`).
fn is_held_by_checksums(url: &str) -> bool {
    let schemes = ["\"https://", "\"http://", "\"ftp://"];
    schemes.iter().any(|scheme| url.starts_with(scheme))
        && !url.starts_with("\"https://swhid.opam.ocaml.org/")
}

/// A field that names where a source comes from.
struct Spelling {
    field: &'static str,
    /// What opam's `src` would have before the URL.
    prefix: &'static str,
}

impl Spelling {
    /// The URL, in quotes, as `src` would have it.
    fn full(&self, quoted: &str) -> String {
        let own_scheme = self.prefix.split('+').next().unwrap_or_default();
        let url = quoted.strip_prefix('"').unwrap_or(quoted);
        if url.starts_with(self.prefix) || url.starts_with(&format!("{own_scheme}://")) {
            return quoted.to_owned();
        }
        format!("\"{}{url}", self.prefix)
    }
}

/// In the order in which opam reads them: the first one that is there counts
/// (`opamFile.ml`: `URLSyntax.fields`).
const SPELLINGS: &[Spelling] = &[
    Spelling { field: "src", prefix: "" },
    Spelling { field: "archive", prefix: "" },
    Spelling { field: "http", prefix: "" },
    Spelling { field: "git", prefix: "git+" },
    Spelling { field: "darcs", prefix: "darcs+" },
    Spelling { field: "hg", prefix: "hg+" },
    Spelling { field: "local", prefix: "rsync+" },
];
/// What else is read, above or, in `url` files before opam 2.0, nowhere.
const KNOWN: &[&str] = &[
    "src",
    "archive",
    "http",
    "git",
    "darcs",
    "hg",
    "local",
    "mirrors",
    "checksum",
    "opam-version",
];
