//! What an opam file means, in a form in which the same meaning is the same text.

use super::source::Source;
use super::{Change, EditKind};
use crate::opam::source::archive_sources;
use crate::opam::syntax::{
    EnvOp, Item, OpamFile, PrefixOp, RelOp, Section, Text, Value, ValueKind,
};
use std::collections::BTreeMap;

/// The meaning of one opam file.
pub(super) struct Meaning {
    /// Fields, and sections that are no sources, by name.
    fields: BTreeMap<String, String>,
    main: Option<Source>,
    extra: BTreeMap<String, Source>,
}

impl Meaning {
    /// Reads an opam file.
    ///
    /// # Errors
    /// Why clients can't, or must not, read it.
    pub(super) fn of(opam: &[u8]) -> Result<Self, String> {
        let file = OpamFile::parse(opam).map_err(|error| error.to_string())?;
        archive_sources(&file).map_err(|error| error.to_string())?;
        let mut meaning = Self { fields: BTreeMap::new(), main: None, extra: BTreeMap::new() };
        for item in file.items() {
            match item {
                Item::Field(field) => {
                    let value = field_value(&field.value);
                    // An empty list says what no field says.
                    if value != "[]" {
                        meaning.add(field.name.to_string(), value);
                    }
                }
                Item::Section(section) if section.kind == *"url" => {
                    meaning.main = Some(Source::of(section));
                }
                Item::Section(section) if section.kind == *"extra-source" => {
                    let name = section.label.as_ref().map(text).unwrap_or_default();
                    meaning.extra.insert(name, Source::of(section));
                }
                Item::Section(section) => {
                    let label = section.label.as_ref().map(text).unwrap_or_default();
                    meaning.add(format!("{} {label}", section.kind), section_value(section));
                }
            }
        }
        Ok(meaning)
    }

    /// What is another in `after`.
    pub(super) fn changes(&self, after: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, was, is) in union(&self.fields, &after.fields).filter(|(_, was, is)| was != is) {
            let kind = EditKind::of_field(name);
            changes.push(Change::of(kind, name, was.cloned(), is.cloned()));
        }
        changes.extend(Source::changes(self.main.as_ref(), after.main.as_ref(), "url"));
        for (name, was, is) in union(&self.extra, &after.extra) {
            let mut of_extra = Source::changes(was, is, &format!("extra-source {name}"));
            for change in &mut of_extra {
                if matches!(change.kind, EditKind::SourceRewritten | EditKind::ChecksumRemoved) {
                    change.kind = EditKind::ExtraSource;
                }
            }
            changes.extend(of_extra);
        }
        changes
    }

    /// opam allows a name once; what more there is counts as well.
    fn add(&mut self, name: String, value: String) {
        let said = self.fields.entry(name).or_default();
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(&value);
    }
}

/// Every key of both maps, with what each map has.
fn union<'a, V>(
    before: &'a BTreeMap<String, V>,
    after: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = (&'a str, Option<&'a V>, Option<&'a V>)> {
    let added = after.keys().filter(|key| !before.contains_key(*key));
    before.keys().chain(added).map(|key| (key.as_str(), before.get(key), after.get(key)))
}

/// A whole field's value: a list of one is that one, as everywhere in the format.
pub(super) fn field_value(value: &Value) -> String {
    match &value.kind {
        ValueKind::List(values) if values.len() == 1 => field_value(&values[0]),
        _ => one(value),
    }
}

fn section_value(section: &Section) -> String {
    let items = section.items.iter().map(|item| match item {
        Item::Field(field) => format!("{}: {}", field.name, field_value(&field.value)),
        Item::Section(section) => format!("{} {{ {} }}", section.kind, section_value(section)),
    });
    items.collect::<Vec<_>>().join("; ")
}

fn one(value: &Value) -> String {
    match &value.kind {
        ValueKind::Bool(value) => value.to_string(),
        ValueKind::Int(value) => value.to_string(),
        ValueKind::Ident(name) => name.to_string(),
        ValueKind::String(string) => text(string),
        ValueKind::List(values) if values.is_empty() => "[]".to_owned(),
        ValueKind::List(values) => format!("[{}]", all(values, " ")),
        ValueKind::Group(values) if values.len() == 1 => one(&values[0]),
        ValueKind::Group(values) => format!("({})", all(values, " ")),
        ValueKind::Option { value, options } => {
            let options = options.iter().map(|values| format!(" {{{}}}", all(values, " ")));
            format!("{}{}", one(value), options.collect::<String>())
        }
        ValueKind::Prefix(PrefixOp::Not, value) => format!("!{}", one(value)),
        ValueKind::Prefix(PrefixOp::Defined, value) => format!("?{}", one(value)),
        ValueKind::And(values) => format!("({})", all(values, " & ")),
        ValueKind::Or(values) => format!("({})", all(values, " | ")),
        ValueKind::Relation(op, sides) => {
            format!("{} {} {}", one(&sides[0]), relation(*op), one(&sides[1]))
        }
        ValueKind::Constraint(op, value) => format!("{} {}", relation(*op), one(value)),
        ValueKind::EnvUpdate(op, sides) => {
            format!("{} {} {}", one(&sides[0]), update(*op), one(&sides[1]))
        }
    }
}

fn all(values: &[Value], between: &str) -> String {
    values.iter().map(one).collect::<Vec<_>>().join(between)
}

/// A string in quotes; two strings are written alike only if they are the same.
fn text(text: &Text) -> String {
    match text.as_str() {
        Some(text) => format!("{text:?}"),
        None => format!("b\"{}\"", text.as_bytes().escape_ascii()),
    }
}

fn relation(op: RelOp) -> &'static str {
    match op {
        RelOp::Equal => "=",
        RelOp::NotEqual => "!=",
        RelOp::Less => "<",
        RelOp::LessOrEqual => "<=",
        RelOp::Greater => ">",
        RelOp::GreaterOrEqual => ">=",
    }
}

fn update(op: EnvOp) -> &'static str {
    match op {
        EnvOp::PlusEqual => "+=",
        EnvOp::EqualPlus => "=+",
        EnvOp::EqualPlusEqual => "=+=",
        EnvOp::ColonEqual => ":=",
        EnvOp::EqualColon => "=:",
    }
}
