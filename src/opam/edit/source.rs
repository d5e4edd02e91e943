//! Sources compared: the same bytes from elsewhere, or other bytes.

use super::meaning::field_value;
use super::{Change, EditKind};
use crate::opam::checksum::{Checksum, ChecksumKind};
use crate::opam::source::section_checksums;
use crate::opam::syntax::{Item, Section};
use std::collections::BTreeSet;

/// One `url` or `extra-source` section.
#[derive(PartialEq, Eq)]
pub(super) struct Source {
    /// What the fields that name URLs say, in order: `src` first.
    urls: Vec<String>,
    checksums: BTreeSet<Checksum>,
    /// Everything else that it says, such as `subpath`.
    rest: BTreeSet<String>,
}

impl Source {
    /// Reads a section.
    pub(super) fn of(section: &Section) -> Self {
        let mut rest = BTreeSet::new();
        for item in &section.items {
            match item {
                Item::Field(field) if is_known(&field.name.to_string()) => {}
                Item::Field(field) => {
                    rest.insert(format!("{}: {}", field.name, field_value(&field.value)));
                }
                Item::Section(section) => drop(rest.insert(section.kind.to_string())),
            }
        }
        let named = URL_FIELDS.iter().flat_map(|name| section.fields(name));
        let urls = named.map(|field| field_value(&field.value)).collect();
        // Whoever reads this has checked the section before.
        let checksums = section_checksums(section).unwrap_or_default();
        Self { urls, checksums: checksums.as_slice().iter().copied().collect(), rest }
    }

    /// What changed from `before` to `after`.
    pub(super) fn changes(
        before: Option<&Self>,
        after: Option<&Self>,
        subject: &str,
    ) -> Vec<Change> {
        if before == after {
            return Vec::new();
        }
        let change = |kind, was: Option<String>, is| Change::of(kind, subject, was, is);
        let (Some(was), Some(is)) = (before, after) else {
            let (was, is) = (before.map(Self::text), after.map(Self::text));
            return vec![change(EditKind::SourceRewritten, was, is)];
        };
        if was.is_rewritten_as(is) {
            return vec![change(EditKind::SourceRewritten, Some(was.text()), Some(is.text()))];
        }
        let (removed, added) = (was.without(is), is.without(was));
        let mut changes = Vec::new();
        if !removed.is_empty() {
            changes.push(change(EditKind::ChecksumRemoved, Some(removed), None));
        }
        if !added.is_empty() {
            changes.push(change(EditKind::ChecksumAdded, None, Some(added)));
        }
        if was.urls != is.urls {
            let (was, is) = (was.urls.join(" "), is.urls.join(" "));
            changes.push(change(EditKind::SourceMoved, Some(was), Some(is)));
        }
        changes
    }

    /// Whether nothing from before holds what is named now.
    fn is_rewritten_as(&self, after: &Self) -> bool {
        let mut shared = false;
        for kind in ChecksumKind::ALL {
            let (was, is) = (self.of_kind(kind), after.of_kind(kind));
            if !was.is_empty() && !is.is_empty() && was != is {
                return true;
            }
            shared |= !was.is_empty() && was == is;
        }
        self.rest != after.rest || !shared && !after.urls_are_known_from(self)
    }

    /// Whether every URL was there before, and the first one first.
    fn urls_are_known_from(&self, before: &Self) -> bool {
        self.urls.first() == before.urls.first()
            && self.urls.iter().all(|url| before.urls.contains(url))
    }

    fn of_kind(&self, kind: ChecksumKind) -> Vec<&Checksum> {
        self.checksums.iter().filter(|checksum| checksum.kind() == kind).collect()
    }

    fn without(&self, other: &Self) -> String {
        let only_here = self.checksums.difference(&other.checksums);
        only_here.map(Checksum::to_string).collect::<Vec<_>>().join(" ")
    }

    fn text(&self) -> String {
        let checksums = self.checksums.iter().map(Checksum::to_string);
        let rest = self.rest.iter().cloned();
        self.urls.iter().cloned().chain(checksums).chain(rest).collect::<Vec<_>>().join(" ")
    }
}

fn is_known(field: &str) -> bool {
    URL_FIELDS.contains(&field) || field == "checksum"
}

/// The fields that name URLs, today's and those of old formats (`opamFile.ml`: `URLSyntax`).
const URL_FIELDS: [&str; 9] =
    ["src", "archive", "http", "git", "hg", "darcs", "local", "mirrors", "swhid"];
