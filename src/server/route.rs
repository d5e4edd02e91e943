//! The kinds of things that are asked for, as they are counted.

use super::target::{Part, Target};

/// What kind of thing a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Archive,
    Index,
    Repo,
    Ledger,
    Page,
    Form,
    Api,
    Asset,
    Monitoring,
    /// Nothing that there is.
    None,
}

impl Route {
    /// All of them, in the order of their discriminants.
    pub(super) const ALL: [Self; 10] = [
        Self::Archive,
        Self::Index,
        Self::Repo,
        Self::Ledger,
        Self::Page,
        Self::Form,
        Self::Api,
        Self::Asset,
        Self::Monitoring,
        Self::None,
    ];

    /// The value of the label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Index => "index",
            Self::Repo => "repo",
            Self::Ledger => "ledger",
            Self::Page => "page",
            Self::Form => "form",
            Self::Api => "api",
            Self::Asset => "asset",
            Self::Monitoring => "monitoring",
            Self::None => "none",
        }
    }
}

impl From<&Target<'_>> for Route {
    fn from(target: &Target<'_>) -> Self {
        match target {
            Target::Of { part: Part::Archive(_) | Part::Source(_), .. } => Self::Archive,
            Target::Of { part: Part::Index, .. } => Self::Index,
            Target::Of { part: Part::Repo, .. } => Self::Repo,
            Target::Checkpoint | Target::LedgerKey | Target::Tile(_) => Self::Ledger,
            Target::Page(_) => Self::Page,
            Target::Form(_) => Self::Form,
            Target::Api(_) => Self::Api,
            Target::Style | Target::Ca => Self::Asset,
            Target::Health(_) | Target::Metrics => Self::Monitoring,
        }
    }
}
