//! What was found, as the CI services of GitHub and GitLab show it beside the files.

use super::states::States;
use super::told;
use crate::config::Rule;
use crate::digest::Sha256;
use crate::keeper::audit::{Audited, Gutted};
use crate::opam::Finding;
use serde_json::{Value, json};

/// One remark about one file.
pub(super) struct Annotation {
    file: String,
    package: String,
    /// The kinds, as words.
    what: String,
    /// More of it, a line each.
    detail: String,
    is_held: bool,
}

impl Annotation {
    pub(super) fn of_edit(audited: &Audited, states: &States) -> Self {
        let kinds = audited.changes.iter().map(|it| it.change.kind.to_string());
        Self {
            file: states.file_of(&audited.package),
            package: audited.package.to_string(),
            what: kinds.collect::<Vec<_>>().join(", "),
            detail: told(&audited.changes).join("\n"),
            is_held: audited.rule == Rule::Hold,
        }
    }

    pub(super) fn of_gutted(gutted: &Gutted) -> Self {
        Self {
            file: "repo".to_owned(),
            package: gutted.repository.clone(),
            what: "gutted".to_owned(),
            detail: gutted.to_string(),
            is_held: true,
        }
    }

    pub(super) fn of_finding(finding: &Finding, states: &States) -> Self {
        Self {
            file: states.file_of(&finding.package),
            package: finding.package.to_string(),
            what: finding.kind.to_string(),
            detail: finding.detail.clone(),
            // Each makes the command fail.
            is_held: true,
        }
    }

    /// A workflow command of GitHub Actions (its toolkit's `command.ts` says what is escaped).
    pub(super) fn workflow_command(&self) -> String {
        let level = if self.is_held { "error" } else { "warning" };
        let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
        let (file, title) = (property(&self.file), property(&self.package));
        let text = data(&format!("{}\n{}", self.what, self.detail));
        format!("::{level} file={file},title={title}::{text}")
    }
}

/// A report in the Code Quality format of GitLab (docs.gitlab.com, "Code Quality report format").
pub(super) fn code_quality(annotations: &[Annotation]) -> Value {
    annotations.iter().map(Annotation::code_quality).collect()
}

impl Annotation {
    fn code_quality(&self) -> Value {
        let Self { file, package, what, detail, is_held } = self;
        // The same remark has the same fingerprint, so that GitLab knows it again.
        let fingerprint = Sha256::of(format!("{file}\n{package}\n{what}\n{detail}").as_bytes());
        json!({
            "description": format!("{package}: {what}\n{detail}"),
            "check_name": what,
            "fingerprint": fingerprint.to_string(),
            "severity": if *is_held { "critical" } else { "minor" },
            "location": { "path": file, "lines": { "begin": 1 } },
        })
    }
}
