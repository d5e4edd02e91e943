//! What shape opam wants the values of a field to have (`opamFormat.ml`, `opamFile.ml`).

use super::canonical::{bare, canonical, conjuncts, list, quoted};
use crate::opam::syntax::{RelOp, Text, Value, ValueKind};
use crate::opam::{Checksum, Package, PackageName};

/// The shape of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One string.
    Text,
    /// One string; blanks around it don't count.
    Prose,
    /// Strings.
    Texts,
    /// Package names, in any order.
    Names,
    /// Bare words, in any order.
    Words,
    /// Packages with constraints.
    Formula,
    /// A condition.
    Filter,
    /// Strings, each perhaps with a condition.
    FilteredTexts,
    /// As [`Self::FilteredTexts`]; blanks around a string don't count.
    FilteredProse,
    /// Lists of words and strings, each list and each of these perhaps with a condition.
    Commands,
    /// Updates of environment variables.
    Updates,
    /// Pairs of a package with its version and a URL.
    Pins,
    /// Pairs of a path and a checksum, in any order.
    HashedPaths,
    /// Anything: opam passes it on as it is, or this program can't tell.
    Any,
}

/// A value whose type opam refuses; clients go on without the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it should be {expected}")]
pub(super) struct Refused {
    expected: &'static str,
}

impl Shape {
    /// The value in its one form; none where it says no more than if the field weren't there.
    pub(super) fn read(self, value: &Value) -> Result<Option<String>, Refused> {
        let refused = Refused { expected: self.expected() };
        let text = match self {
            Self::Any => return Ok(Some(canonical(value))),
            Self::Text => string(value).map(|text| non_empty(text.as_bytes())),
            Self::Prose => string(value).map(|text| non_empty(text.as_bytes().trim_ascii())),
            Self::Filter => filter(value),
            Self::HashedPaths => self.elements(value).map(sorted).map(|pairs| Some(list(&pairs))),
            // An empty command does nothing.
            Self::Commands => self.elements(value).map(|mut commands| {
                commands.retain(|command| command != "[]");
                non_empty_list(commands)
            }),
            Self::Names | Self::Words => self.elements(value).map(sorted).map(non_empty_list),
            _ => self.elements(value).map(non_empty_list),
        };
        text.ok_or(refused)
    }

    /// The elements, each in its one form; none if one of them is refused.
    pub(super) fn elements(self, value: &Value) -> Option<Vec<String>> {
        let element: fn(&Value) -> Option<String> = match self {
            Self::Texts => |value| string(value).map(|text| quoted(text.as_bytes())),
            Self::Names => name,
            Self::Words => word,
            Self::Formula => package_formula,
            Self::FilteredTexts => |value| filtered_text(value, |text| text),
            Self::FilteredProse => |value| filtered_text(value, <[u8]>::trim_ascii),
            Self::Commands => command,
            Self::Updates => environment_update,
            Self::Pins => pin,
            Self::HashedPaths => hashed_path,
            Self::Text | Self::Prose | Self::Filter | Self::Any => return None,
        };
        let value = wrapped(value, self.depth());
        match &value.kind {
            ValueKind::List(values) if self == Self::Formula => {
                values.iter().flat_map(conjuncts).map(element).collect()
            }
            ValueKind::List(values) => values.iter().map(element).collect(),
            _ => None,
        }
    }

    /// How deep the lists are that opam makes of a value that has fewer.
    fn depth(self) -> usize {
        match self {
            Self::Commands | Self::Updates | Self::Pins | Self::HashedPaths => 2,
            _ => 1,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Text | Self::Prose => "a string",
            Self::Texts => "a list of strings",
            Self::Names => "a list of package names",
            Self::Words => "a list of words",
            Self::Formula => "a formula of packages and constraints",
            Self::Filter => "a condition",
            Self::FilteredTexts | Self::FilteredProse => "a list of strings with conditions",
            Self::Commands => "a list of commands",
            Self::Updates => "a list of updates of environment variables",
            Self::Pins => "a list of pairs of a package and a URL",
            Self::HashedPaths => "a list of pairs of a path and a checksum",
            Self::Any => "a value",
        }
    }
}

/// The value in as many lists as opam puts around it (`opamFormat.ml`: `list_depth`).
fn wrapped(value: &Value, wanted: usize) -> Value {
    (depth(value)..wanted).fold(value.clone(), |value, _| {
        let span = value.span;
        Value { kind: ValueKind::List(vec![value]), span }
    })
}

fn depth(value: &Value) -> usize {
    match &value.kind {
        ValueKind::List(values) => 1 + values.first().map_or(0, depth),
        ValueKind::Option { value, .. } => depth(value),
        _ => 0,
    }
}

fn sorted(mut elements: Vec<String>) -> Vec<String> {
    elements.sort_unstable();
    elements.dedup();
    elements
}

fn non_empty(text: &[u8]) -> Option<String> {
    (!text.is_empty()).then(|| quoted(text))
}

fn non_empty_list(elements: Vec<String>) -> Option<String> {
    (!elements.is_empty()).then(|| list(&elements))
}

/// The string that a value is.
fn string(value: &Value) -> Option<&Text> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

fn word(value: &Value) -> Option<String> {
    matches!(value.kind, ValueKind::Ident(_)).then(|| canonical(value))
}

fn name(value: &Value) -> Option<String> {
    let name: PackageName = string(value)?.as_str()?.parse().ok()?;
    Some(quoted(name.as_str().as_bytes()))
}

/// `true`, and nothing at all, is what holds without the field.
fn filter(value: &Value) -> Option<Option<String>> {
    let value = match &value.kind {
        ValueKind::List(values) => match values.as_slice() {
            [] => return Some(None),
            [only] => only,
            _ => return None,
        },
        _ => value,
    };
    is_filter(value).then(|| match bare(value).kind {
        ValueKind::Bool(true) => None,
        _ => Some(canonical(value)),
    })
}

fn is_filter(value: &Value) -> bool {
    match &value.kind {
        ValueKind::Bool(_) | ValueKind::Int(_) | ValueKind::Ident(_) | ValueKind::String(_) => true,
        ValueKind::Group(values) => values.len() == 1 && values.iter().all(is_filter),
        ValueKind::Relation(_, pair) => pair.iter().all(is_filter),
        ValueKind::Prefix(_, value) => is_filter(value),
        ValueKind::And(values) | ValueKind::Or(values) => values.iter().all(is_filter),
        ValueKind::List(_)
        | ValueKind::Option { .. }
        | ValueKind::Constraint(..)
        | ValueKind::EnvUpdate(..) => false,
    }
}

/// What stands before a condition, and the condition; at most one of these.
fn unconditioned(value: &Value) -> Option<&Value> {
    let ValueKind::Option { value, options } = &value.kind else { return Some(value) };
    match options.as_slice() {
        [condition] if condition.len() <= 1 && condition.iter().all(is_filter) => Some(value),
        _ => None,
    }
}

fn filtered_text(value: &Value, trim: fn(&[u8]) -> &[u8]) -> Option<String> {
    let text = quoted(trim(string(unconditioned(value)?)?.as_bytes()));
    Some(match &value.kind {
        ValueKind::Option { options, .. } => {
            let conditions = options.iter().flatten().map(canonical);
            format!("{text} {{{}}}", conditions.collect::<String>())
        }
        _ => text,
    })
}

fn command(value: &Value) -> Option<String> {
    let ValueKind::List(arguments) = &unconditioned(value)?.kind else { return None };
    let is_argument = |argument: &Value| {
        let bare = unconditioned(argument).map(|argument| &argument.kind);
        matches!(bare, Some(ValueKind::Ident(_) | ValueKind::String(_)))
    };
    arguments.iter().all(is_argument).then(|| canonical(value))
}

fn environment_update(value: &Value) -> Option<String> {
    let value = match &value.kind {
        ValueKind::List(values) => match values.as_slice() {
            [only] => only,
            _ => return None,
        },
        _ => value,
    };
    let (ValueKind::EnvUpdate(_, pair) | ValueKind::Relation(RelOp::Equal, pair)) = &value.kind
    else {
        return None;
    };
    match (&pair[0].kind, &pair[1].kind) {
        (ValueKind::Ident(_), ValueKind::String(_)) => Some(canonical(value)),
        _ => None,
    }
}

fn package_formula(value: &Value) -> Option<String> {
    is_package_formula(value).then(|| canonical(value))
}

fn is_package_formula(value: &Value) -> bool {
    match &value.kind {
        ValueKind::String(_) => name(value).is_some(),
        ValueKind::Option { value, options } => match options.as_slice() {
            [constraints] => name(value).is_some() && constraints.iter().all(is_constraint),
            _ => false,
        },
        ValueKind::Group(values) | ValueKind::And(values) | ValueKind::Or(values) => {
            values.iter().all(is_package_formula)
        }
        _ => false,
    }
}

/// A condition in which versions may be compared with.
fn is_constraint(value: &Value) -> bool {
    match &value.kind {
        ValueKind::Constraint(_, version) => {
            matches!(version.kind, ValueKind::String(_) | ValueKind::Ident(_))
        }
        ValueKind::Group(values) | ValueKind::And(values) | ValueKind::Or(values) => {
            values.iter().all(is_constraint)
        }
        ValueKind::Prefix(_, value) => is_constraint(value),
        _ => is_filter(value),
    }
}

fn pair(value: &Value) -> Option<(&Text, &Text)> {
    match &value.kind {
        ValueKind::List(values) => match values.as_slice() {
            [first, second] => Some((string(first)?, string(second)?)),
            _ => None,
        },
        _ => None,
    }
}

fn pin(value: &Value) -> Option<String> {
    let (package, _) = pair(value)?;
    package.as_str()?.parse::<Package>().ok()?;
    Some(canonical(value))
}

fn hashed_path(value: &Value) -> Option<String> {
    let (path, checksum) = pair(value)?;
    let checksum: Checksum = checksum.as_str()?.parse().ok()?;
    Some(format!("[{} \"{checksum}\"]", quoted(path.as_bytes())))
}
