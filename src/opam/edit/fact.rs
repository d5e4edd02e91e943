//! What one state of a version says, line by line.

use super::EditKind;
use super::canonical::{canonical, quoted};
use crate::opam::syntax::{Item, Value};
use std::collections::{BTreeMap, BTreeSet};

/// One line of what a version says, in two states of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// What the line is about, such as `url.src`.
    pub(super) label: String,
    /// What it said; none if it wasn't there.
    pub(super) before: Option<String>,
    /// What it says; none if it isn't there.
    pub(super) after: Option<String>,
}

/// The lines of one state, and what opam would refuse in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    said: BTreeMap<String, (EditKind, String)>,
    /// Sorted, so that the order of what is refused makes no difference.
    problems: BTreeSet<String>,
}

impl Facts {
    /// Adds a line; one of the same label grows by it.
    pub(super) fn say(&mut self, kind: EditKind, label: &str, text: String) {
        match self.said.get_mut(label) {
            Some((_, said)) => {
                said.push(' ');
                said.push_str(&text);
            }
            None => {
                self.said.insert(label.to_owned(), (kind, text));
            }
        }
    }

    /// Adds a field or a section that this program doesn't know, and so takes for code.
    pub(super) fn unknown(&mut self, prefix: &str, item: &Item) {
        let (label, text) = match item {
            Item::Field(field) => (format!("{prefix}{}", field.name), canonical(&field.value)),
            // Not the label of a field of the same name, which may be of another kind.
            Item::Section(section) => (format!("{prefix}{} {{…}}", section.kind), item_text(item)),
        };
        self.say(EditKind::Build, &label, text);
    }

    /// Notes what opam would refuse, in a sentence for people.
    pub(super) fn problem(&mut self, problem: String) {
        self.problems.insert(problem);
    }

    /// Notes that something is there several times of which opam takes one: which one counts is
    /// said nowhere, so it is a line of its own that there are several.
    pub(super) fn several(&mut self, kind: EditKind, label: &str) {
        self.problem(format!("{label}: it is there several times"));
        self.say(kind, label, "(several)".to_owned());
    }

    /// What opam would refuse; none if it would refuse nothing.
    pub(super) fn problems(&self) -> Option<String> {
        let problems: Vec<&str> = self.problems.iter().map(String::as_str).collect();
        (!problems.is_empty()).then(|| problems.join("\n"))
    }

    /// What one line says.
    pub(super) fn said(&self, label: &str) -> Option<&str> {
        self.said.get(label).map(|(_, text)| text.as_str())
    }

    /// The lines that are not the same in both states.
    pub(super) fn differences(&self, after: &Self) -> Vec<(EditKind, Fact)> {
        let mut labels: Vec<&String> = self.said.keys().chain(after.said.keys()).collect();
        labels.sort_unstable();
        labels.dedup();
        let mut differences = Vec::new();
        for label in labels {
            let (old, new) = (self.said.get(label), after.said.get(label));
            if old == new {
                continue;
            }
            let text = |said: Option<&(EditKind, String)>| said.map(|(_, text)| text.clone());
            let kind = new.or(old).map_or(EditKind::Build, |(kind, _)| *kind);
            let fact = Fact { label: label.clone(), before: text(old), after: text(new) };
            differences.push((kind, fact));
        }
        differences
    }
}

/// A value that opam refuses, as text that no value has which it takes.
pub(super) fn refused(value: &Value) -> String {
    format!("{} (refused)", canonical(value))
}

/// An item in its one form; the order of items in a section makes no difference.
fn item_text(item: &Item) -> String {
    match item {
        Item::Field(field) => format!("{}: {}", field.name, canonical(&field.value)),
        Item::Section(section) => {
            let label = section.label.as_ref().map(|label| quoted(label.as_bytes()));
            let mut items: Vec<String> = section.items.iter().map(item_text).collect();
            items.sort_unstable();
            let label = label.unwrap_or_default();
            format!("{} {label}{{ {} }}", section.kind, items.join(" "))
        }
    }
}
