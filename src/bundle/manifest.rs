//! What a bundle says of itself, under its signature.

use super::BundleError;
use crate::digest::Sha256;
use crate::ledger::frontier::Frontier;
use std::fmt;
use std::str::FromStr;

/// What a bundle says of itself.
///
/// As text, one line each: `opam-keep bundle 1`, the ledger's name, `from` and a size, a `peak` for
/// each complete subtree of the ledger of that size, `to` and a size, `root`, `list`, and `archives`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The name of the ledger that the entries are of.
    pub ledger: String,
    /// The ledger before the first entry that is in the bundle.
    pub from: Frontier,
    /// How many entries the ledger has at the bundle's end.
    pub size: u64,
    /// Its root hash then.
    pub root: Sha256,
    /// What the list hashes to.
    pub list: Sha256,
    /// Which archives are in it.
    pub extent: Extent,
}

/// Which of the archives that its entries pin a bundle has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every one.
    All,
    /// Those that someone selected.
    Selected,
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nledger {}\nfrom {}", self.ledger, self.from.size())?;
        for peak in self.from.hashes() {
            writeln!(f, "peak {peak}")?;
        }
        writeln!(f, "to {}\nroot {}\nlist {}", self.size, self.root, self.list)?;
        let extent = match self.extent {
            Extent::All => "all",
            Extent::Selected => "selected",
        };
        writeln!(f, "archives {extent}")
    }
}

impl FromStr for Manifest {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, BundleError> {
        let parsed = Self::parse(text).filter(|manifest| manifest.to_string() == text);
        parsed.ok_or_else(|| BundleError::Form("its manifest can't be read".to_owned()))
    }
}

impl Manifest {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().peekable();
        lines.next().filter(|line| *line == FIRST_LINE)?;
        let ledger = lines.next()?.strip_prefix("ledger ")?.to_owned();
        let from = lines.next()?.strip_prefix("from ")?.parse().ok()?;
        let mut peaks = Vec::new();
        while let Some(peak) = lines.peek().and_then(|line| line.strip_prefix("peak ")) {
            peaks.push(peak.parse().ok()?);
            lines.next();
        }
        Some(Self {
            ledger,
            from: Frontier::new(from, &peaks)?,
            size: lines.next()?.strip_prefix("to ")?.parse().ok().filter(|size| *size >= from)?,
            root: lines.next()?.strip_prefix("root ")?.parse().ok()?,
            list: lines.next()?.strip_prefix("list ")?.parse().ok()?,
            extent: match lines.next()? {
                "archives all" => Extent::All,
                "archives selected" => Extent::Selected,
                _ => return None,
            },
        })
    }
}

/// No ledger's name has a blank, so this is no checkpoint's first line.
const FIRST_LINE: &str = "opam-keep bundle 1";
