//! `audit`: what changed under published versions, for those who keep a repository.

mod annotations;
mod states;

use super::output::say;
use super::{Context, Failure, output, repository};
use crate::config::Rule;
use crate::keeper::audit::{self, Audited, Comparison, ServedState, Strengthened};
use crate::keeper::verify;
use crate::opam::{Change, Checksum, Finding};
use crate::store::blobs::Blobs;
use annotations::Annotation;
use clap::{Args, ValueEnum};
use states::States;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `audit` can be told.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The state before, or the only one: a directory or an index.tar.gz; with --git, a revision,
    /// A..B, or A...B for what B did since it left A; without any, what this mirror serves
    #[arg(value_name = "OLD|REVISIONS")]
    old: Option<PathBuf>,
    /// The state after; without one, the first is looked over for what is wrong with it
    new: Option<PathBuf>,
    /// The clone that has the revisions
    #[arg(long, value_name = "DIR", conflicts_with = "new", requires = "old")]
    git: Option<PathBuf>,
    /// The repository whose rules in [policy] hold; without it the only one that is configured
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// How to print what was found; --json is one object a line
    #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "json")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// Annotations of a GitHub workflow
    Github,
    /// A Code Quality report of GitLab CI
    Gitlab,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let asked = arguments.repository.as_deref();
    let (repository, states) = match &arguments.old {
        Some(old) => {
            let (new, git) = (arguments.new.as_deref(), arguments.git.as_deref());
            (repository::of_policy(context, asked)?, States::read(old, new, git))
        }
        None => {
            let name = repository::of_store(context, asked)?;
            (name, read_served(context, name).map(States::Served))
        }
    };
    let states = states.map_err(Failure::Usage)?;
    let is_fine = match &states {
        States::Two(old, new) => {
            let policy = &context.config.policy;
            let compared = audit::compare(old, new, policy, repository);
            match (context.json, arguments.format) {
                (true, _) => {
                    compared.edits.iter().for_each(output::json);
                    compared.gutted.iter().for_each(output::json);
                }
                (false, Format::Text) => print_comparison(&compared),
                (false, format) => {
                    let told = compared.edits.iter().filter(|it| it.rule != Rule::Allow);
                    let annotations = told.map(|it| Annotation::of_edit(it, &states));
                    let gutted = compared.gutted.iter().map(Annotation::of_gutted);
                    annotate(format, &gutted.chain(annotations).collect::<Vec<_>>());
                }
            }
            compared.is_let_through()
        }
        States::One(tree) | States::Served(ServedState { tree, .. }) => {
            let findings = audit::look_over(tree);
            let strengthened = match &states {
                States::Served(served) => served.strengthened.as_slice(),
                States::One(_) | States::Two(..) => &[],
            };
            match (context.json, arguments.format) {
                (true, _) => {
                    strengthened.iter().for_each(output::json);
                    findings.iter().for_each(output::json);
                }
                (false, Format::Text) => print_findings(&findings, strengthened),
                (false, format) => {
                    let annotations = findings.iter().map(|it| Annotation::of_finding(it, &states));
                    annotate(format, &annotations.collect::<Vec<_>>());
                }
            }
            findings.is_empty()
        }
    };
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn annotate(format: Format, annotations: &[Annotation]) {
    match format {
        Format::Github => {
            annotations.iter().for_each(|it| output::verbatim(&it.workflow_command()))
        }
        Format::Text | Format::Gitlab => output::json(&annotations::code_quality(annotations)),
    }
}

/// Prints every edit with what the policy says of it.
pub(super) fn print_comparison(compared: &Comparison) {
    let Comparison { edits: audited, gutted } = compared;
    for Audited { package, rule, changes } in audited {
        let kinds: Vec<String> = changes.iter().map(|it| it.change.kind.to_string()).collect();
        let style = if *rule == Rule::Hold { output::BAD } else { output::HEADING };
        let rule = match rule {
            Rule::Allow => "allow",
            Rule::Warn => "warn",
            Rule::Hold => "hold",
        };
        say!("{style}{rule:<5}{style:#} {package}: {}", kinds.join(", "));
        told(changes).iter().for_each(|line| say!("        {line}"));
    }
    let held = audited.iter().filter(|it| it.rule == Rule::Hold).count();
    let edits = output::count(audited.len() as u64, "edit", "edits");
    say!("{edits}, {held} of which the policy holds");
    if let Some(gutted) = gutted {
        say!("{0}hold{0:#}  repository {1}: {gutted}", output::BAD, gutted.repository);
    }
}

fn read_served(context: &Context, repository: &str) -> Result<ServedState, String> {
    let layout = context.layout().map_err(|failure| failure.to_string())?;
    let log = verify::reader(&layout)?;
    audit::read_served(&log, &Blobs::at(layout), repository)
}

fn print_findings(findings: &[Finding], strengthened: &[Strengthened]) {
    let said = |checksums: &[Checksum]| -> String {
        checksums.iter().map(Checksum::to_string).collect::<Vec<_>>().join(" ")
    };
    for Strengthened { package, declared, added } in strengthened {
        say!("{package}: strengthened: {} and {}", said(declared), said(added));
    }
    for Finding { package, kind, detail } in findings {
        say!("{package}: {kind}: {detail}");
    }
    let findings = output::count(findings.len() as u64, "finding", "findings");
    match strengthened.len() as u64 {
        0 => say!("{findings}"),
        count => {
            let versions = output::count(count, "version was", "versions were");
            say!("{findings}; {versions} strengthened");
        }
    }
}

/// The changes as lines of a diff; what the policy lets through is named and not spelt out.
fn told(changes: &[audit::AuditedChange]) -> Vec<String> {
    let told = changes.iter().filter(|it| it.rule != Rule::Allow);
    told.flat_map(|it| lines(&it.change)).collect()
}

fn lines(change: &Change) -> Vec<String> {
    let side = |sign: char, text: &Option<String>| -> Vec<String> {
        let lines = text.iter().flat_map(|text| text.lines());
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    [side('-', &change.before), side('+', &change.after)].concat()
}

const AFTER_HELP: &str = "\
Exits with 1 when the policy holds an edit, or, given one state, when anything is wrong with it. \
Without a configuration the default policy decides.

A pull request in a clone:  opam-keep audit --git . origin/master...HEAD";
