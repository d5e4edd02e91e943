//! Values as text that is the same for what opam reads as the same.

use crate::opam::syntax::{EnvOp, PrefixOp, RelOp, Text, Value, ValueKind};
use std::fmt::Write;

/// The value in its one form: blanks, comments, kinds of quotes and needless parentheses make no
/// difference, and chains of one operator are flat. Everything else does, order included.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

/// A string in quotes, on one line and with nothing in it that doesn't show: other bytes are
/// other text.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\'' => text.push(character),
                _ => text.extend(character.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string can't fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

/// Values in brackets.
pub(super) fn list(elements: &[String]) -> String {
    format!("[{}]", elements.join(" "))
}

/// The value inside of parentheses that hold nothing else.
pub(super) fn bare(value: &Value) -> &Value {
    match &value.kind {
        ValueKind::Group(values) => match values.as_slice() {
            [only] => bare(only),
            _ => value,
        },
        _ => value,
    }
}

/// The values that must all hold: those of a chain of `&`, at any depth, or the value itself.
pub(super) fn conjuncts(value: &Value) -> Vec<&Value> {
    flat(value, |kind| match kind {
        ValueKind::And(operands) => Some(operands),
        _ => None,
    })
}

fn disjuncts(value: &Value) -> Vec<&Value> {
    flat(value, |kind| match kind {
        ValueKind::Or(operands) => Some(operands),
        _ => None,
    })
}

fn flat(value: &Value, operands: fn(&ValueKind) -> Option<&Vec<Value>>) -> Vec<&Value> {
    let value = bare(value);
    match operands(&value.kind) {
        Some(values) => values.iter().flat_map(|value| flat(value, operands)).collect(),
        None => vec![value],
    }
}

fn write_value(text: &mut String, value: &Value) {
    let value = bare(value);
    match &value.kind {
        ValueKind::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        ValueKind::Int(value) => text.push_str(&value.to_string()),
        ValueKind::Ident(name) => text.push_str(&name.to_string()),
        ValueKind::String(string) => text.push_str(&quoted(Text::as_bytes(string))),
        ValueKind::List(values) => write_all(text, '[', values, ']'),
        ValueKind::Group(values) => write_all(text, '(', values, ')'),
        ValueKind::Option { value, options } => {
            write_operand(text, value);
            for option in options {
                let conjuncts: Vec<&Value> = option.iter().flat_map(conjuncts).collect();
                text.push_str(" {");
                write_chain(text, &conjuncts, " & ");
                text.push('}');
            }
        }
        ValueKind::Prefix(operator, value) => {
            text.push(match operator {
                PrefixOp::Not => '!',
                PrefixOp::Defined => '?',
            });
            write_operand(text, value);
        }
        ValueKind::And(_) => write_chain(text, &conjuncts(value), " & "),
        ValueKind::Or(_) => write_chain(text, &disjuncts(value), " | "),
        ValueKind::Relation(operator, pair) => write_pair(text, pair, relation(*operator)),
        ValueKind::Constraint(operator, value) => {
            text.push_str(relation(*operator));
            text.push(' ');
            write_value(text, value);
        }
        ValueKind::EnvUpdate(operator, pair) => write_pair(text, pair, update(*operator)),
    }
}

fn write_all(text: &mut String, open: char, values: &[Value], close: char) {
    text.push(open);
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        write_value(text, value);
    }
    text.push(close);
}

fn write_chain(text: &mut String, operands: &[&Value], operator: &str) {
    if let [only] = operands {
        return write_value(text, only);
    }
    for (index, operand) in operands.iter().enumerate() {
        if index > 0 {
            text.push_str(operator);
        }
        write_operand_of_chain(text, operand);
    }
}

/// In parentheses where it is a chain itself.
fn write_operand_of_chain(text: &mut String, value: &Value) {
    match bare(value).kind {
        ValueKind::And(_) | ValueKind::Or(_) => write_in_parentheses(text, value),
        _ => write_value(text, value),
    }
}

/// In parentheses where it is more than an atom or something in brackets.
fn write_operand(text: &mut String, value: &Value) {
    match bare(value).kind {
        ValueKind::Bool(_)
        | ValueKind::Int(_)
        | ValueKind::Ident(_)
        | ValueKind::String(_)
        | ValueKind::List(_)
        | ValueKind::Group(_)
        | ValueKind::Prefix(..) => write_value(text, value),
        _ => write_in_parentheses(text, value),
    }
}

fn write_in_parentheses(text: &mut String, value: &Value) {
    text.push('(');
    write_value(text, value);
    text.push(')');
}

fn write_pair(text: &mut String, [left, right]: &[Value; 2], operator: &str) {
    write_value(text, left);
    text.push(' ');
    text.push_str(operator);
    text.push(' ');
    write_value(text, right);
}

fn relation(operator: RelOp) -> &'static str {
    match operator {
        RelOp::Equal => "=",
        RelOp::NotEqual => "!=",
        RelOp::Less => "<",
        RelOp::LessOrEqual => "<=",
        RelOp::Greater => ">",
        RelOp::GreaterOrEqual => ">=",
    }
}

fn update(operator: EnvOp) -> &'static str {
    match operator {
        EnvOp::PlusEqual => "+=",
        EnvOp::EqualPlus => "=+",
        EnvOp::EqualPlusEqual => "=+=",
        EnvOp::ColonEqual => ":=",
        EnvOp::EqualColon => "=:",
    }
}
