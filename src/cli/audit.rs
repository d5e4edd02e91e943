//! `audit`: what changed under published versions, for those who keep a repository.

use super::output::say;
use super::{Context, Failure, output};
use crate::config::Rule;
use crate::keeper::audit::{self, Audited};
use crate::opam::{Change, Finding};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// What `audit` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The state before, or the only one: a directory or an index.tar.gz
    old: PathBuf,
    /// The state after; without one, the first is looked over for what is wrong with it
    new: Option<PathBuf>,
    /// The repository whose rules in [policy] hold
    #[arg(long, value_name = "NAME", default_value = "default")]
    repository: String,
    /// How to print what was found; --json is one object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// Annotations of a GitHub workflow
    Github,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let read = |path: &PathBuf| audit::read(path).map_err(Failure::Usage);
    let old = read(&arguments.old)?;
    let found = match &arguments.new {
        Some(new) => {
            let new = read(new)?;
            let policy = &context.config.policy;
            let audited = audit::compare(&old, &new, policy, &arguments.repository);
            audited.iter().for_each(|it| print_edit(it, context.json, arguments.format));
            let held = audited.iter().filter(|it| it.rule == Rule::Hold).count();
            if !context.json && arguments.format == Format::Text {
                let edits = output::count(audited.len() as u64, "edit", "edits");
                say!("{edits}, {held} of which the policy holds");
            }
            held
        }
        None => {
            let findings = audit::look_over(&old);
            findings.iter().for_each(|it| print_finding(it, context.json, arguments.format));
            if !context.json && arguments.format == Format::Text {
                say!("{}", output::count(findings.len() as u64, "finding", "findings"));
            }
            findings.len()
        }
    };
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_edit(audited: &Audited, as_json: bool, format: Format) {
    if as_json {
        return output::json(audited);
    }
    let Audited { package, rule, changes } = audited;
    let kinds: Vec<String> = changes.iter().map(|it| it.change.kind.to_string()).collect();
    let kinds = kinds.join(", ");
    // What the policy lets through is named and not spelt out.
    let told = changes.iter().filter(|it| it.rule != Rule::Allow);
    let text = told.flat_map(|it| lines(&it.change));
    match (format, *rule) {
        (Format::Github, Rule::Allow) => {}
        (Format::Github, rule) => {
            let level = if rule == Rule::Hold { "error" } else { "warning" };
            let text: Vec<String> = text.collect();
            let text = escaped(&format!("{kinds}\n{}", text.join("\n")));
            say!("::{level} file={},title={package}::{text}", file_of(&package.to_string()));
        }
        (Format::Text, rule) => {
            let style = if rule == Rule::Hold { output::BAD } else { output::HEADING };
            let rule = match rule {
                Rule::Allow => "allow",
                Rule::Warn => "warn",
                Rule::Hold => "hold",
            };
            say!("{style}{rule:<5}{style:#} {package}: {kinds}");
            text.for_each(|line| say!("        {line}"));
        }
    }
}

/// A change as the lines of a diff.
fn lines(change: &Change) -> Vec<String> {
    let side = |sign: char, text: &Option<String>| -> Vec<String> {
        let lines = text.iter().flat_map(|text| text.lines());
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    [side('-', &change.before), side('+', &change.after)].concat()
}

fn print_finding(finding: &Finding, as_json: bool, format: Format) {
    let Finding { package, kind, detail } = finding;
    match (as_json, format) {
        (true, _) => output::json(finding),
        (false, Format::Text) => say!("{package}: {kind}: {detail}"),
        (false, Format::Github) => {
            let file = file_of(&package.to_string());
            say!(
                "::warning file={file},title={package}::{}",
                escaped(&format!("{kind}: {detail}"))
            );
        }
    }
}

/// Where opam-repository keeps a version.
fn file_of(package: &str) -> String {
    let name = package.split_once('.').map_or(package, |(name, _)| name);
    format!("packages/{name}/{package}/opam")
}

/// A message as a workflow command takes it (GitHub Actions toolkit, `command.ts`).
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

const AFTER_HELP: &str = "\
Exits with 1 when the policy holds an edit, or, given one state, when anything is wrong with it.
Without a configuration the default policy decides.";
