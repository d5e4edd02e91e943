//! What a package depends on, as its `depends` field says (`opamFormat.ml`: `package_formula`).

use super::syntax::{OpamFile, RelOp, Span, Value, ValueKind};
use super::{PackageName, PackageVersion};
use std::cmp::Ordering;

/// One package that another depends on, under conditions or without any.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// Which package.
    pub name: PackageName,
    /// The dependency as the file writes it, on one line.
    pub text: String,
    conditions: Vec<Vec<Value>>,
}

impl Dependency {
    /// Whether the constraints on the version let this one in; whatever else is asked for (such as
    /// `with-test`) is taken as given.
    pub fn lets_in(&self, version: &PackageVersion) -> bool {
        self.conditions.iter().flatten().all(|condition| lets_in(condition, version))
    }
}

/// Every package that `depends` names, in the file's order; whoever is named several times comes
/// several times. At most [`MAX_DEPENDENCIES`].
pub fn dependencies(file: &OpamFile) -> Vec<Dependency> {
    let mut found = Vec::new();
    if let Some(field) = file.field("depends") {
        collect(&field.value, &file.to_bytes(), &mut found);
    }
    found
}

/// The text of a field with one string.
pub fn text_of(file: &OpamFile, field: &str) -> Option<String> {
    match &file.field(field)?.value.kind {
        ValueKind::String(text) => Some(text.to_string()),
        ValueKind::List(values) => match values.first().map(|value| &value.kind) {
            Some(ValueKind::String(text)) => Some(text.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The parser bounds how deep values nest.
fn collect(value: &Value, source: &[u8], found: &mut Vec<Dependency>) {
    if found.len() >= MAX_DEPENDENCIES {
        return;
    }
    match &value.kind {
        ValueKind::List(values)
        | ValueKind::Group(values)
        | ValueKind::And(values)
        | ValueKind::Or(values) => {
            values.iter().for_each(|value| collect(value, source, found));
        }
        ValueKind::Option { value: name, options } => {
            found.extend(dependency(name, options.clone(), text(source, value.span)));
        }
        ValueKind::String(_) => {
            found.extend(dependency(value, Vec::new(), text(source, value.span)))
        }
        _ => {}
    }
}

fn dependency(name: &Value, conditions: Vec<Vec<Value>>, text: String) -> Option<Dependency> {
    let ValueKind::String(name) = &name.kind else { return None };
    let name = name.as_str()?.parse().ok()?;
    Some(Dependency { name, text, conditions })
}

fn text(source: &[u8], span: Span) -> String {
    let text = String::from_utf8_lossy(source.get(span.range()).unwrap_or_default());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lets_in(condition: &Value, version: &PackageVersion) -> bool {
    match &condition.kind {
        ValueKind::And(values) | ValueKind::Group(values) => {
            values.iter().all(|value| lets_in(value, version))
        }
        ValueKind::Or(values) => values.iter().any(|value| lets_in(value, version)),
        ValueKind::Constraint(operator, bound) => {
            let ValueKind::String(bound) = &bound.kind else { return true };
            let bound = bound.as_str().and_then(|bound| bound.parse::<PackageVersion>().ok());
            let Some(bound) = bound else { return true };
            let order = super::version_order::compare(version.as_str(), bound.as_str());
            match operator {
                RelOp::Equal => order == Ordering::Equal,
                RelOp::NotEqual => order != Ordering::Equal,
                RelOp::Less => order == Ordering::Less,
                RelOp::LessOrEqual => order != Ordering::Greater,
                RelOp::Greater => order == Ordering::Greater,
                RelOp::GreaterOrEqual => order != Ordering::Less,
            }
        }
        _ => true,
    }
}

/// Most packages that are told of one `depends` field; real ones reach 120.
pub const MAX_DEPENDENCIES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(depends: &str) -> Vec<Dependency> {
        dependencies(&OpamFile::parse(format!("depends: {depends}").as_bytes()).unwrap())
    }

    #[test]
    fn every_package_is_found_as_it_is_written() {
        let found = of(
            "[\n  \"ocaml\" {>= \"4.08\" &\n   < \"5.0\"}\n  (\"a\" | \"b\" {with-test})\n  \"c\"]",
        );
        let texts: Vec<&str> = found.iter().map(|it| it.text.as_str()).collect();
        let expected =
            ["\"ocaml\" {>= \"4.08\" & < \"5.0\"}", "\"a\"", "\"b\" {with-test}", "\"c\""];
        assert_eq!(texts, expected);
        assert_eq!(of("\"alone\"").len(), 1);
        assert!(of("[1 true name \"not a name\"]").is_empty());
    }

    #[test]
    fn versions_are_let_in_as_opam_would() {
        for (depends, version, expected) in [
            ("[\"a\" {>= \"1.0\" & < \"2.0\"}]", "1.9", true),
            ("[\"a\" {>= \"1.0\" & < \"2.0\"}]", "2.0~beta", true),
            ("[\"a\" {>= \"1.0\" & < \"2.0\"}]", "2.0", false),
            ("[\"a\" {= \"1.0\" | >= \"3\"}]", "2.0", false),
            ("[\"a\" {(= \"1.0\" | >= \"3\") & with-test}]", "3.1", true),
            ("[\"a\" {!= \"1.0\"}]", "1.0", false),
            ("[\"a\" {= version}]", "1.0", true),
            ("[\"a\"]", "0", true),
        ] {
            let found = of(depends)[0].lets_in(&version.parse().unwrap());
            assert_eq!(found, expected, "{depends} {version}");
        }
    }
}
